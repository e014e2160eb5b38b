//! One measurement of rten: `rten-bench MODEL.onnx CASE SECONDS`, as `bench/engines.py` describes it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use rten::{ModelOptions, NodeId, Value, ValueOrView};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

const WARM_RUNS: usize = 2;
const MIN_RUNS: usize = 5;
const MAX_RUNS: usize = 50_000;

fn input(folder: &Path, k: usize, entry: &serde_json::Value) -> Result<Value, Box<dyn Error>> {
    let dims = entry["shape"].as_array().ok_or("no shape")?;
    let shape: Vec<usize> = dims.iter().filter_map(|d| d.as_u64()).map(|d| d as usize).collect();
    let bytes = fs::read(folder.join(format!("{k}.bin")))?;
    Ok(match entry["dtype"].as_str() {
        Some("float32") => {
            let data: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            Tensor::from_data(&shape, data).into()
        }
        // It computes with 32-bit integers.
        Some("int64") => {
            let data: Vec<i32> = bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as i32).collect();
            Tensor::from_data(&shape, data).into()
        }
        other => return Err(format!("element type {other:?}").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, folder, seconds] = args.as_slice() else { return Err("rten-bench MODEL.onnx CASE SECONDS".into()) };
    let (folder, seconds): (&Path, f64) = (folder.as_ref(), seconds.parse()?);
    let case: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("case.json"))?)?;
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    let model = options.load_file(model)?;
    let mut inputs: Vec<(NodeId, Value)> = vec![];
    for (k, entry) in case["inputs"].as_array().into_iter().flatten().enumerate() {
        if let Ok(id) = model.node_id(entry["name"].as_str().unwrap_or_default()) {
            inputs.push((id, input(folder, k, entry)?));
        }
    }
    let outputs = model.output_ids().to_vec();
    let run = || {
        let views: Vec<(NodeId, ValueOrView)> = inputs.iter().map(|(id, v)| (*id, v.as_view().into())).collect();
        model.run(views, &outputs, None)
    };
    for (k, value) in run()?.into_iter().enumerate() {
        let Value::FloatTensor(t) = value else { return Err("an output is not f32".into()) };
        let bytes: Vec<u8> = t.to_vec().into_iter().flat_map(f32::to_le_bytes).collect();
        fs::write(folder.join(format!("rten.{k}.bin")), bytes)?;
    }
    for _ in 0..WARM_RUNS {
        run()?;
    }
    let (mut times, begin) = (vec![], Instant::now());
    while times.len() < MAX_RUNS && (times.len() < MIN_RUNS || begin.elapsed().as_secs_f64() < seconds) {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({"median_ms": times[times.len() / 2], "min_ms": times[0], "runs": times.len()}));
    Ok(())
}
