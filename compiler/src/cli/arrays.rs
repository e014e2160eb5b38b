//! Tensors in `.npy` and `.npz` files.
//!
//! A type that numpy lacks travels as what it is stored in: `bf16` as the bits in `u16`. Arrays in Fortran order or of big-endian
//! elements are read too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use npyz::zip::write::{FileOptions, ZipWriter};
use npyz::zip::{CompressionMethod, DateTime, ZipArchive};
use npyz::{NpyHeader, Order};
use tinsmith::Error;
use tinsmith::emit::files;
use tinsmith::tensor::{DType, Tensor};

/// The arrays of an `.npz` file, by name.
pub(crate) fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let error = |message: String| Error::read(path, message);
    let file = File::open(path).map_err(|e| error(e.to_string()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| error(e.to_string()))?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| error(e.to_string()))?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else { continue };
        let tensor = read_from(entry).map_err(|e| error(format!("array `{name}`: {e}")))?;
        arrays.insert(name, tensor);
    }
    Ok(arrays)
}

/// The array of an `.npy` file.
pub(crate) fn read_npy(path: &Path) -> Result<Tensor, Error> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    read_from(BufReader::new(file)).map_err(|e| Error::read(path, e))
}

/// Writes an `.npz` file, the same bytes for the same arrays.
pub(crate) fn write_npz(path: &Path, arrays: &[(String, Tensor)]) -> Result<(), Error> {
    let written = files::write_with(path, |file| {
        let mut zip = ZipWriter::new(file);
        for (name, tensor) in arrays {
            let options = FileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(DateTime::default())
                .large_file(tensor.bytes().len() > 1 << 31);
            zip.start_file(format!("{name}.npy"), options)?;
            write_to(&mut zip, tensor)?;
        }
        zip.finish()?;
        Ok(())
    });
    Ok(written?)
}

/// Writes an `.npy` file.
pub(crate) fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), Error> {
    Ok(files::write_with(path, |file| write_to(file, tensor))?)
}

fn read_from(mut from: impl Read) -> Result<Tensor, String> {
    let start = header_bytes(&mut from).map_err(|e| e.to_string())?;
    let header = NpyHeader::from_reader(&mut start.as_slice()).map_err(|e| e.to_string())?;
    let descr = header.dtype().descr();
    let descr = descr.trim_matches('\'');
    let (dtype, big_endian) = dtype_of(descr).ok_or_else(|| format!("elements of type `{descr}` are not supported"))?;
    let dims: Vec<usize> = header.shape().iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let size = dims.iter().try_fold(dtype.size_bytes(), |a, &b| a.checked_mul(b)).ok_or("the array is too large")?;
    let mut bytes = vec![];
    from.take(size as u64).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() != size {
        return Err(format!("expected {size} bytes of elements, found {}", bytes.len()));
    }
    if big_endian {
        bytes.chunks_exact_mut(dtype.size_bytes()).for_each(<[u8]>::reverse);
    }
    if dtype == DType::Bool {
        bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    if header.order() == Order::C || dims.len() < 2 {
        return Ok(Tensor::from_bytes(dtype, &dims, &bytes));
    }
    let reversed: Vec<usize> = dims.iter().rev().copied().collect();
    let columns = Tensor::from_bytes(dtype, &reversed, &bytes);
    let mut strides = vec![1; dims.len()];
    for i in 1..dims.len() {
        strides[i] = strides[i - 1] * dims[i - 1];
    }
    Ok(columns.gather(&dims, |index| Some(index.iter().zip(&strides).map(|(i, s)| i * s).sum())))
}

/// The header of an array, its shape checked: the reader of headers multiplies the extents without looking.
fn header_bytes(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let invalid = |message: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, message);
    let mut bytes = vec![0; 10];
    from.read_exact(&mut bytes)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(invalid("it is not an array"));
    }
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] > 1 {
        let mut high = [0; 2];
        from.read_exact(&mut high)?;
        bytes.extend(high);
        length |= usize::from(u16::from_le_bytes(high)) << 16;
    }
    let from_here = bytes.len();
    from.take(length as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[from_here..]);
    let shape = text.split_once("'shape':").map_or("", |(_, rest)| rest.split(')').next().unwrap_or(""));
    let mut extents = shape.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty()).map(str::parse::<u64>);
    if extents.try_fold(1u64, |n, d| n.checked_mul(d.ok()?.max(1))).is_none() {
        return Err(invalid("the array is too large"));
    }
    Ok(bytes)
}

fn write_to(to: &mut impl Write, tensor: &Tensor) -> std::io::Result<()> {
    let dims: Vec<String> = tensor.dims().iter().map(|n| format!("{n},")).collect();
    let dims = dims.join(" ");
    let dims = if tensor.dims().len() > 1 { dims.trim_end_matches(',') } else { &dims };
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({dims}), }}", descr_of(tensor.dtype()));
    // The elements begin at a multiple of 64 bytes; magic and length take ten, the end of the line one.
    let padding = (64 - (header.len() + 11) % 64) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    to.write_all(b"\x93NUMPY\x01\x00")?;
    to.write_all(&(header.len() as u16).to_le_bytes())?;
    to.write_all(header.as_bytes())?;
    to.write_all(tensor.bytes())
}

/// The element type of numpy's name for it, and whether its bytes are in the other order.
fn dtype_of(descr: &str) -> Option<(DType, bool)> {
    let (order, name) = descr.split_at_checked(1)?;
    let dtype = match name {
        "b1" => DType::Bool,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        _ => return None,
    };
    Some((dtype, order == ">"))
}

fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 | DType::BF16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        small => descr_of(small.storage()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tensor: &Tensor) -> Tensor {
        let mut bytes = vec![];
        write_to(&mut bytes, tensor).expect("memory takes it");
        assert_eq!((bytes.len() - tensor.bytes().len()) % 64, 0);
        read_from(&*bytes).expect("what was written")
    }

    #[test]
    fn every_type_comes_back() {
        for dtype in DType::ALL {
            for dims in [&[][..], &[3], &[2, 0, 2], &[2, 3]] {
                let n = dims.iter().product::<usize>();
                let tensor = Tensor::from_ints(dtype, dims, &(0..n as i128).collect::<Vec<_>>());
                let back = round_trip(&tensor);
                assert_eq!((back.dims(), back.bytes()), (tensor.dims(), tensor.bytes()), "{dtype}");
                assert_eq!(back.dtype(), if dtype == DType::BF16 { DType::U16 } else { dtype });
            }
        }
    }

    fn npy(header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn other_orders_are_read() {
        let fortran = npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n", &[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]);
        let expected = Tensor::from_slice(&[2, 3], &[1i16, 3, 5, 2, 4, 6]);
        assert_eq!(read_from(&*fortran), Ok(expected));
    }

    #[test]
    fn hostile_arrays_are_refused() {
        let short = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000), }\n", &[0; 8]);
        assert_eq!(read_from(&*short), Err("expected 4000000000000 bytes of elements, found 8".to_owned()));
        let text = npy("{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }\n", &[0; 12]);
        assert_eq!(read_from(&*text), Err("elements of type `<U3` are not supported".to_owned()));
        assert!(read_from(&b"nothing"[..]).is_err());
    }
}
