//! Compiles the model when the program is built.

fn main() {
    tinsmith::build("../digits/digits.onnx");
}
