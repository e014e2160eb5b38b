//! The contents of constants that text only names: `blob(hash)`, with a file for its bytes, and `rand(seed)`.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::Graph;
use super::print::Form;
use crate::tensor::{DType, Tensor, n_elements};

/// The constants that a printed graph names by hash.
pub type Blobs = BTreeMap<String, Tensor>;

/// The constants that `print` writes as `blob(hash)`, for [`super::parse_with`].
pub fn blobs(graph: &Graph) -> Blobs {
    let mut blobs = Blobs::new();
    for node in graph.order() {
        let node = graph.node(node);
        if let Some(t) = node.constant().filter(|t| matches!(Form::of(t), Form::Blob)) {
            blobs.insert(blob_hash(t), t.clone());
        }
        for body in node.control().into_iter().flat_map(|c| c.bodies()) {
            blobs.extend(self::blobs(body));
        }
    }
    blobs
}

/// The blobs as the bytes of a file that stands beside a `.graph` file; [`super::read_blobs`] reads it.
///
/// A line `tinsmith blobs`, then for each blob a line `HASH LENGTH` and its bytes.
pub fn write_blobs(blobs: &Blobs) -> Vec<u8> {
    let mut out = b"tinsmith blobs\n".to_vec();
    for (hash, t) in blobs {
        out.extend_from_slice(format!("{hash} {}\n", t.bytes().len()).as_bytes());
        out.extend_from_slice(t.bytes());
    }
    out
}

/// The name of a constant's bytes in text: `h` and 16 hexadecimal digits of their SHA-256.
pub fn blob_hash(t: &Tensor) -> String {
    hash_bytes(t.bytes())
}

fn hash_bytes(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..8].iter().fold("h".to_owned(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// The blobs in the bytes that [`super::write_blobs`] wrote.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read_blobs(mut bytes: &[u8]) -> Result<Blobs, String> {
    let line = |bytes: &mut &[u8]| {
        let end = bytes.iter().take(100).position(|&b| b == b'\n').ok_or("a blob file ends within a line")?;
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        *bytes = &bytes[end + 1..];
        Ok::<_, String>(line)
    };
    if line(&mut bytes)? != "tinsmith blobs" {
        return Err("not a blob file".to_owned());
    }
    let mut blobs = Blobs::new();
    while !bytes.is_empty() {
        let line = line(&mut bytes)?;
        let entry = line.split_once(' ').and_then(|(hash, len)| Some((hash.to_owned(), len.parse::<usize>().ok()?)));
        let (hash, len) = entry.ok_or_else(|| format!("`{line}` is not a blob's hash and length"))?;
        if len > bytes.len() {
            return Err(format!("blob `{hash}` is cut off"));
        }
        if hash_bytes(&bytes[..len]) != hash {
            return Err(format!("blob `{hash}` has other contents"));
        }
        blobs.insert(hash, Tensor::from_bytes(DType::U8, &[len], &bytes[..len]));
        bytes = &bytes[len..];
    }
    Ok(blobs)
}

/// The numbers that `rand(seed)` stands for: of mean 0 and variance 1 for floats (sums of four uniform ones), from -8 to 7 for signed integers,
/// 0 to 15 for unsigned ones, and coin tosses.
pub fn rand(ty: DType, dims: &[usize], seed: u64) -> Tensor {
    // SplitMix64, whose first numbers for neighbouring seeds differ.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let n = n_elements(dims);
    if ty.is_float() {
        let quarter = |bits: u64| (bits & 0xffff) as f64 / 65536.0 - 0.5;
        let mut normal = || {
            let bits = next();
            (quarter(bits) + quarter(bits >> 16) + quarter(bits >> 32) + quarter(bits >> 48)) * 3f64.sqrt()
        };
        let values: Vec<f64> = (0..n).map(|_| normal()).collect();
        return Tensor::from_f64s(ty, dims, &values);
    }
    let values: Vec<i128> = (0..n)
        .map(|_| match ty {
            DType::Bool => i128::from(next() >> 63),
            ty if ty.is_signed() => i128::from(next() >> 60) - 8,
            _ => i128::from(next() >> 60),
        })
        .collect();
    Tensor::from_ints(ty, dims, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{parse, print};

    #[test]
    fn blobs_are_checked() {
        let graph = parse("graph @g() -> (@a) {\n @a = const rand(1) : f32[9]\n}").unwrap();
        assert!(parse(&print(&graph)).unwrap_err().message.ends_with("are not at hand"));
        let bytes = write_blobs(&blobs(&graph));
        assert!(read_blobs(&bytes[..bytes.len() - 1]).unwrap_err().ends_with("is cut off"));
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(read_blobs(&changed).unwrap_err().ends_with("has other contents"));
        assert_eq!(read_blobs(b"junk\n").unwrap_err(), "not a blob file");
    }

    #[test]
    fn random_numbers_are_normal() {
        let x = rand(DType::F32, &[10_000], 3).to_f64s();
        let mean = x.iter().sum::<f64>() / 10_000.0;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_ne!(rand(DType::I8, &[100], 1), rand(DType::I8, &[100], 2));
    }
}
