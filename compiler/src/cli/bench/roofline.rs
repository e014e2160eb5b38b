//! The roofline as a picture: ceilings of this machine, and a dot for every step, as large as its time.

use std::fmt::Write;

use super::report::{Measured, Measurement};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
/// Left, right, top and bottom of the field.
const FIELD: [f64; 4] = [70.0, 930.0, 60.0, 540.0];
/// Steps whose names are written.
const LABELS: usize = 8;
/// Radius of a step that takes the whole time.
const LARGEST: f64 = 40.0;

/// Ranges of powers of ten: operations per byte, and GFLOP/s.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn place(&self, intensity: f64, gflops: f64) -> (f64, f64) {
        let [left, right, top, bottom] = FIELD;
        let part = |value: f64, (low, high): (f64, f64)| ((value.log10() - low) / (high - low)).clamp(0.0, 1.0);
        (left + part(intensity, self.x) * (right - left), bottom - part(gflops, self.y) * (bottom - top))
    }
}

/// A step as it is drawn.
struct Dot<'a> {
    step: &'a Measured,
    intensity: f64,
    gflops: f64,
}

/// The picture as SVG.
pub(super) fn svg(m: &Measurement) -> String {
    let total: f64 = m.steps.iter().map(|s| s.ms).sum::<f64>().max(1e-12);
    let mut dots: Vec<Dot<'_>> = m.steps.iter().filter_map(dot).collect();
    dots.sort_by(|a, b| b.step.ms.total_cmp(&a.step.ms));
    let axes = axes(m, &dots);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let threads = if m.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", m.threads) };
    text(
        &mut out,
        FIELD[0],
        24.0,
        "start",
        "black",
        &format!("{}: {total:.4} ms in {} steps, {threads} of {}", m.name, m.steps.len(), m.cpu),
    );
    let still: f64 = m.steps.iter().filter(|s| dot(s).is_none()).fold(0.0, |sum, s| sum + s.ms);
    let drawn = format!("each dot a step, its area its time; {:.1}% of the time is in steps without arithmetic", 100.0 * still / total);
    text(&mut out, FIELD[0], 42.0, "start", "black", &drawn);
    grid(&mut out, &axes);
    ceilings(&mut out, m, &axes);
    for dot in &dots {
        let (x, y) = axes.place(dot.intensity, dot.gflops);
        let radius = (LARGEST * (dot.step.ms / total).sqrt()).max(1.5);
        let floor = m.floor(&dot.step.facts);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\" fill-opacity=\"0.5\" stroke=\"black\" stroke-width=\"0.5\"><title>{}: {:.4} ms, {:.1} GFLOP/s, {:.2} FLOP/byte, {:.0}% of {}</title></circle>",
            color(floor.bound()),
            escaped(&dot.step.facts.label),
            dot.step.ms,
            dot.gflops,
            dot.intensity,
            100.0 * floor.ms() / dot.step.ms.max(1e-12),
            floor.bound(),
        );
    }
    let largest = &dots[..dots.len().min(LABELS)];
    for (i, dot) in largest.iter().enumerate() {
        let (x, y) = axes.place(dot.intensity, dot.gflops);
        text(&mut out, x, y + 4.0, "middle", "black", &format!("{}", i + 1));
        let row = FIELD[3] - 10.0 - 15.0 * (largest.len() - 1 - i) as f64;
        let share = format!("{}: {:.0}% {}", i + 1, 100.0 * dot.step.ms / total, shortened(&dot.step.facts.label));
        text(&mut out, FIELD[1] - 360.0, row, "start", "black", &share);
    }
    out.push_str("</svg>\n");
    out
}

fn dot(step: &Measured) -> Option<Dot<'_>> {
    let bytes = (step.facts.value_bytes + step.facts.constant_bytes) as f64;
    let drawn = step.facts.flops > 0.0 && bytes > 0.0 && step.ms > 0.0;
    drawn.then(|| Dot { step, intensity: step.facts.flops / bytes, gflops: step.facts.flops / (step.ms * 1e6) })
}

fn axes(m: &Measurement, dots: &[Dot<'_>]) -> Axes {
    let slowest = m.peaks.levels.iter().map(|l| l.gbytes_per_s).fold(f64::INFINITY, f64::min).max(1e-3);
    let low = dots.iter().map(|d| d.intensity).fold(0.25, f64::min);
    let high = dots.iter().map(|d| d.intensity).fold(4.0 * m.peaks.gflops / slowest, f64::max);
    let bottom = dots.iter().map(|d| d.gflops).fold(1.0, f64::min);
    let top = dots.iter().map(|d| d.gflops).fold(2.0 * m.peaks.gflops, f64::max);
    Axes { x: (low.log10().floor(), high.log10().ceil()), y: (bottom.log10().floor(), top.log10().ceil()) }
}

fn grid(out: &mut String, axes: &Axes) {
    let [left, right, top, bottom] = FIELD;
    for (power, is_x) in powers(axes.x).map(|p| (p, true)).chain(powers(axes.y).map(|p| (p, false))) {
        let value = 10f64.powi(power);
        let (x, y) = if is_x { axes.place(value, 1e-30) } else { axes.place(1e-30, value) };
        if is_x {
            line(out, (x, top), (x, bottom), "gainsboro", "");
            text(out, x, bottom + 16.0, "middle", "black", &format!("{value}"));
        } else {
            line(out, (left, y), (right, y), "gainsboro", "");
            text(out, left - 6.0, y + 4.0, "end", "black", &format!("{value}"));
        }
    }
    text(out, (left + right) / 2.0, bottom + 40.0, "middle", "black", "operations per byte");
    text(out, 8.0, top - 8.0, "start", "black", "GFLOP/s");
}

fn powers((low, high): (f64, f64)) -> std::ops::RangeInclusive<i32> {
    low as i32..=high as i32
}

fn ceilings(out: &mut String, m: &Measurement, axes: &Axes) {
    let peak = m.peaks.gflops;
    let far = 10f64.powf(axes.x.1);
    let ridge = m.peaks.levels.iter().map(|l| peak / l.gbytes_per_s).fold(far, f64::min);
    line(out, axes.place(ridge, peak), axes.place(far, peak), color("fma"), "");
    let what = format!("multiply-adds {peak:.0} GFLOP/s in {}-bit vectors", m.peaks.vector_bits);
    text(out, FIELD[0] + 10.0, FIELD[2] + 19.0, "start", color("fma"), &what);
    for (i, level) in m.peaks.levels.iter().enumerate() {
        // From the left or the lower edge to the ridge.
        let from = 10f64.powf(axes.x.0).max(10f64.powf(axes.y.0) / level.gbytes_per_s);
        let (start, end) = (axes.place(from, from * level.gbytes_per_s), axes.place(peak / level.gbytes_per_s, peak));
        line(out, start, end, color(level.name), if level.name == "memory" { "6 3" } else { "" });
        // Nothing else is above the ceilings.
        let row = FIELD[2] + 34.0 + 15.0 * i as f64;
        text(out, FIELD[0] + 10.0, row, "start", color(level.name), &format!("{} {:.0} GB/s", level.name, level.gbytes_per_s));
    }
}

fn line(out: &mut String, a: (f64, f64), b: (f64, f64), color: &str, dashes: &str) {
    let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
    let _ = writeln!(out, "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\"{dashes}/>", a.0, a.1, b.0, b.1);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, fill: &str, what: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>", escaped(what));
}

/// The color of what bounds a step.
fn color(bound: &str) -> &'static str {
    match bound {
        "fma" => "firebrick",
        "L1" => "teal",
        "L2" => "steelblue",
        "L3" => "purple",
        _ => "gray",
    }
}

/// The end of a long name, which tells more than its beginning.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 48;
    let n = name.chars().count();
    if n <= LONGEST { name.to_owned() } else { format!("\u{2026}{}", name.chars().skip(n - LONGEST + 1).collect::<String>()) }
}

fn escaped(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let text: String = text.chars().map(visible).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{measurement, step};
    use super::*;

    #[test]
    fn ceilings_and_steps_are_drawn() {
        let mut m = measurement();
        m.steps.push(step("a<b> & \"c\"", 0.2, 5_000_000, 0, 1_000));
        insta::assert_snapshot!(svg(&m), @r#"
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 600" font-family="sans-serif" font-size="12">
        <rect width="960" height="600" fill="white"/>
        <text x="70.0" y="24.0" text-anchor="start" fill="black">net: 1.7000 ms in 4 steps, 1 thread of a CPU</text>
        <text x="70.0" y="42.0" text-anchor="start" fill="black">each dot a step, its area its time; 5.9% of the time is in steps without arithmetic</text>
        <line x1="70.0" y1="60.0" x2="70.0" y2="540.0" stroke="gainsboro"/>
        <text x="70.0" y="556.0" text-anchor="middle" fill="black">0.1</text>
        <line x1="242.0" y1="60.0" x2="242.0" y2="540.0" stroke="gainsboro"/>
        <text x="242.0" y="556.0" text-anchor="middle" fill="black">1</text>
        <line x1="414.0" y1="60.0" x2="414.0" y2="540.0" stroke="gainsboro"/>
        <text x="414.0" y="556.0" text-anchor="middle" fill="black">10</text>
        <line x1="586.0" y1="60.0" x2="586.0" y2="540.0" stroke="gainsboro"/>
        <text x="586.0" y="556.0" text-anchor="middle" fill="black">100</text>
        <line x1="758.0" y1="60.0" x2="758.0" y2="540.0" stroke="gainsboro"/>
        <text x="758.0" y="556.0" text-anchor="middle" fill="black">1000</text>
        <line x1="930.0" y1="60.0" x2="930.0" y2="540.0" stroke="gainsboro"/>
        <text x="930.0" y="556.0" text-anchor="middle" fill="black">10000</text>
        <line x1="70.0" y1="540.0" x2="930.0" y2="540.0" stroke="gainsboro"/>
        <text x="64.0" y="544.0" text-anchor="end" fill="black">1</text>
        <line x1="70.0" y1="380.0" x2="930.0" y2="380.0" stroke="gainsboro"/>
        <text x="64.0" y="384.0" text-anchor="end" fill="black">10</text>
        <line x1="70.0" y1="220.0" x2="930.0" y2="220.0" stroke="gainsboro"/>
        <text x="64.0" y="224.0" text-anchor="end" fill="black">100</text>
        <line x1="70.0" y1="60.0" x2="930.0" y2="60.0" stroke="gainsboro"/>
        <text x="64.0" y="64.0" text-anchor="end" fill="black">1000</text>
        <text x="500.0" y="580.0" text-anchor="middle" fill="black">operations per byte</text>
        <text x="8.0" y="52.0" text-anchor="start" fill="black">GFLOP/s</text>
        <line x1="191.8" y1="208.8" x2="930.0" y2="208.8" stroke="firebrick"/>
        <text x="80.0" y="79.0" text-anchor="start" fill="firebrick">multiply-adds 118 GFLOP/s in 512-bit vectors</text>
        <line x1="70.0" y1="322.1" x2="191.8" y2="208.8" stroke="teal"/>
        <text x="80.0" y="94.0" text-anchor="start" fill="teal">L1 230 GB/s</text>
        <line x1="70.0" y1="367.3" x2="240.4" y2="208.8" stroke="steelblue"/>
        <text x="80.0" y="109.0" text-anchor="start" fill="steelblue">L2 120 GB/s</text>
        <line x1="70.0" y1="383.6" x2="257.9" y2="208.8" stroke="purple"/>
        <text x="80.0" y="124.0" text-anchor="start" fill="purple">L3 95 GB/s</text>
        <line x1="70.0" y1="476.3" x2="357.6" y2="208.8" stroke="gray" stroke-dasharray="6 3"/>
        <text x="80.0" y="139.0" text-anchor="start" fill="gray">memory 25 GB/s</text>
        <circle cx="602.2" cy="215.1" r="32.2" fill="firebrick" fill-opacity="0.5" stroke="black" stroke-width="0.5"><title>conv: 1.1000 ms, 107.3 GFLOP/s, 124.21 FLOP/byte, 91% of fma</title></circle>
        <circle cx="138.4" cy="408.2" r="16.8" fill="purple" fill-opacity="0.5" stroke="black" stroke-width="0.5"><title>dense: 0.3000 ms, 6.7 GFLOP/s, 0.25 FLOP/byte, 28% of L3</title></circle>
        <circle cx="930.0" cy="268.2" r="13.7" fill="firebrick" fill-opacity="0.5" stroke="black" stroke-width="0.5"><title>a&lt;b&gt; &amp; &quot;c&quot;: 0.2000 ms, 50.0 GFLOP/s, 10000.00 FLOP/byte, 43% of fma</title></circle>
        <text x="602.2" y="219.1" text-anchor="middle" fill="black">1</text>
        <text x="570.0" y="500.0" text-anchor="start" fill="black">1: 65% conv</text>
        <text x="138.4" y="412.2" text-anchor="middle" fill="black">2</text>
        <text x="570.0" y="515.0" text-anchor="start" fill="black">2: 18% dense</text>
        <text x="930.0" y="272.2" text-anchor="middle" fill="black">3</text>
        <text x="570.0" y="530.0" text-anchor="start" fill="black">3: 12% a&lt;b&gt; &amp; &quot;c&quot;</text>
        </svg>
        "#);
    }

    #[test]
    fn a_model_without_steps_has_a_picture() {
        let mut m = measurement();
        m.steps.clear();
        let picture = svg(&m);
        assert!(
            picture.starts_with("<svg") && picture.ends_with("</svg>\n") && !picture.contains("NaN") && !picture.contains("inf"),
            "{picture}"
        );
    }
}
