//! Classifies the PGM images given on the command line with a model that is linked in.

mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut workspace = digits::Workspace::boxed();
    for path in std::env::args().skip(1) {
        let pgm = std::fs::read(&path)?;
        let pixels = pgm.strip_prefix(b"P5\n28 28\n255\n").ok_or("not a 28x28 PGM image")?;
        let mut image = [0.0; 784];
        for (to, &from) in image.iter_mut().zip(pixels) {
            *to = f32::from(from) / 255.0;
        }
        let mut scores = [0.0; 10];
        digits::run(&image, &mut scores, &mut workspace)?;
        let (digit, score) = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("no scores")?;
        println!("{path}: {digit} ({:.1} %)", score * 100.0);
    }
    Ok(())
}
