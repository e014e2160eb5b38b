use tinsmith::codegen::jit::Executable;
use tinsmith::codegen::target::{Level, Machine};
use tinsmith::graph::{Graph, Value};
use tinsmith::ops::{self, Attribute, Attributes};
use tinsmith::schedule;
use tinsmith::tensor::{DType, Tensor, Type};
fn random(seed: u64, dims: &[usize]) -> Tensor {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let v: Vec<f32> = (0..dims.iter().product()).map(|_| { s ^= s << 13; s ^= s >> 7; s ^= s << 17; (s >> 40) as f32 / (1u64 << 23) as f32 - 1.0 }).collect();
    Tensor::from_slice(dims, &v)
}
fn op(g: &mut Graph, name: &str, x: &[Value], a: &[(&str, Attribute)]) -> Value {
    let mut at = Attributes(a.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect());
    let o = (ops::find(name).unwrap().build)(&mut at).unwrap();
    let x: Vec<Option<Value>> = x.iter().map(|&v| Some(v)).collect();
    Value { node: g.add_node(o, &x, &["v".to_owned()], "").unwrap(), result: 0 }
}
fn ints(v: &[i64]) -> Attribute { Attribute::Ints(v.to_vec()) }
fn main() {
    let which = std::env::args().nth(1).unwrap_or_default();
    for &(name, c, h, o, k, s, p, gr) in &[
        ("3x3 56x56x64", 64, 56, 64, 3, 1, 1, 1), ("3x3 28x28x128", 128, 28, 128, 3, 1, 1, 1), ("3x3 14x14x256", 256, 14, 256, 3, 1, 1, 1), ("3x3 7x7x512", 512, 7, 512, 3, 1, 1, 1),
        ("1x1 56 64-256", 64, 56, 256, 1, 1, 0, 1), ("1x1 14 1024-256", 1024, 14, 256, 1, 1, 0, 1), ("1x1 7 512-2048", 512, 7, 2048, 1, 1, 0, 1),
        ("7x7s2 3-64", 3, 224, 64, 7, 2, 3, 1), ("dw3x3 112x112x32", 32, 112, 32, 3, 1, 1, 32), ("dw3x3 14x14x576", 576, 14, 576, 3, 1, 1, 576), ("lenet 5x5 1-6", 1, 28, 6, 5, 1, 2, 1), ("lenet 5x5 6-16", 6, 14, 16, 5, 1, 0, 1), ("gemv 1x1 784-512", 784, 1, 512, 1, 1, 0, 1), ("vgg 224 64-64", 64, 224, 64, 3, 1, 1, 1)] {
        if !name.contains(&which) { continue; }
        let mut g = Graph::new("net");
        let x = g.add_input("x", Type::fixed(DType::F32, &[1, h, h, c]));
        let x = if name.starts_with("lenet") || c == 3 { x } else { x };
        let x = op(&mut g, "Transpose", &[x], &[("perm", ints(&[0, 3, 1, 2]))]);
        let w = g.add_constant("w", random(1, &[o, c / gr, k, k]));
        let b = g.add_constant("b", random(2, &[o]));
        let y = op(&mut g, "Conv", &[x, w, b], &[("pads", ints(&[p, p, p, p])), ("strides", ints(&[s, s])), ("group", Attribute::Int(gr as i64))]);
        let y = op(&mut g, "Add", &[y, b0(&mut g)], &[]);
        let y = op(&mut g, "Transpose", &[y], &[("perm", ints(&[0, 2, 3, 1]))]);
        g.set_outputs(vec![("y".into(), y)]);
        let out = g.ty(y).dims().unwrap();
        let t0 = std::time::Instant::now();
        let c_ = tinsmith::pipeline::lower_and_schedule(g, &schedule::Machine::vector128(16, true)).unwrap();
        let exe = Executable::new(&c_.program, &Machine::x86_64(Level::V3)).unwrap();
        let ct = t0.elapsed();
        let mut m = exe.memory();
        let xin = random(3, &[1, h, h, c]);
        m.inputs[0].as_mut_slice().copy_from_slice(xin.bytes());
        let mut best = vec![f64::MAX; c_.program.steps.len()];
        let t = std::time::Instant::now();
        while t.elapsed().as_millis() < 300 {
            for (i, b) in best.iter_mut().enumerate() {
                let t = std::time::Instant::now();
                exe.run_step(i, &mut m).unwrap();
                *b = b.min(t.elapsed().as_secs_f64());
            }
        }
        let flop = 2.0 * out.iter().product::<usize>() as f64 * (c / gr * k * k) as f64;
        let total: f64 = best.iter().sum();
        print!("{name:20} {:8.1} us {:6.1} GFLOP/s compile {:.0} ms |", total * 1e6, flop / total * 1e-9, ct.as_secs_f64() * 1e3);
        for (i, s) in c_.program.steps.iter().enumerate() { print!(" {} {:.1}us;", c_.program.kernels[s.kernel].schedule, best[i] * 1e6); }
        println!();
        if std::env::var("NEST").is_ok() { for k in &c_.program.kernels { println!("{k}"); } }
        if std::env::var("ASM").is_ok() { let e = Executable::with_listings(&c_.program, &Machine::x86_64(Level::V3), true).unwrap(); for l in e.listings() { println!("{l:?}"); } }
    }
    fn b0(g: &mut Graph) -> Value { g.add_constant("z", Tensor::from_slice(&[1], &[0.5f32])) }
}
