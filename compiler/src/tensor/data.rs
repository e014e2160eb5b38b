//! Constant tensors: dense, row-major bytes with a type.

use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};

use super::{DType, SmallFloat, Type, n_elements, row_major_strides};

/// A dense row-major tensor of known shape; cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    // Words, so that the bytes are aligned for every element type.
    words: Arc<Vec<u64>>,
}

/// A Rust type that is an element type.
pub trait Element: bytemuck::Pod {
    /// The element type it is.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty = $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(i8 = I8, i16 = I16, i32 = I32, i64 = I64, u8 = U8, u16 = U16, u32 = U32, u64 = U64, f16 = F16, bf16 = BF16, f32 = F32, f64 = F64);

/// Runs `$body` with `$t` naming the Rust type that stores elements of `$dtype` (`u8` for `bool`).
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype.storage() {
            $crate::tensor::DType::Bool | $crate::tensor::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::tensor::DType::I8 => {
                type $t = i8;
                $body
            }
            $crate::tensor::DType::I16 => {
                type $t = i16;
                $body
            }
            $crate::tensor::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::tensor::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::tensor::DType::U16 => {
                type $t = u16;
                $body
            }
            $crate::tensor::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::tensor::DType::U64 => {
                type $t = u64;
                $body
            }
            $crate::tensor::DType::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::tensor::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            small => unreachable!("{small} is stored as another type"),
        }
    };
}

impl Tensor {
    /// A tensor of the given bytes, row-major and little-endian.
    ///
    /// # Panics
    /// If the number of bytes is not that of the type.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: &[u8]) -> Self {
        let len = n_elements(dims) * dtype.size_bytes();
        assert_eq!(bytes.len(), len, "bytes of {dtype}{dims:?}");
        let mut words = vec![0u64; len.div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..len].copy_from_slice(bytes);
        Tensor { dtype, dims: dims.to_vec(), words: Arc::new(words) }
    }

    /// A tensor of the given elements, row-major.
    ///
    /// # Panics
    /// If the number of elements is not that of the shape.
    pub fn from_slice<T: Element>(dims: &[usize], elements: &[T]) -> Self {
        Self::from_bytes(T::DTYPE, dims, bytemuck::cast_slice(elements))
    }

    /// A `bool` tensor.
    pub fn from_bools(dims: &[usize], elements: impl IntoIterator<Item = bool>) -> Self {
        let bytes: Vec<u8> = elements.into_iter().map(u8::from).collect();
        Self::from_bytes(DType::Bool, dims, &bytes)
    }

    /// A tensor of any type from `f64` values, rounded to nearest even; integers truncate and saturate, `bool` is "not zero".
    pub fn from_f64s(dtype: DType, dims: &[usize], elements: &[f64]) -> Self {
        match dtype {
            DType::F32 => Self::from_slice(dims, &elements.iter().map(|&x| x as f32).collect::<Vec<_>>()),
            DType::F64 => Self::from_slice(dims, elements),
            DType::F16 => Self::from_slice(dims, &elements.iter().map(|&x| super::functions::round_f16(x)).collect::<Vec<_>>()),
            DType::BF16 => Self::from_slice(dims, &elements.iter().map(|&x| super::functions::round_bf16(x)).collect::<Vec<_>>()),
            DType::Bool => Self::from_bools(dims, elements.iter().map(|&x| x != 0.0)),
            small if small.is_small() => Self::from_f64s_as(small, dims, elements, true, "up"),
            _ => {
                let (least, greatest) = dtype.int_range();
                Self::from_ints(dtype, dims, &elements.iter().map(|&x| (x as i128).clamp(least, greatest)).collect::<Vec<_>>())
            }
        }
    }

    /// As [`Tensor::from_f64s`], where small floating-point types saturate and round as said.
    pub fn from_f64s_as(dtype: DType, dims: &[usize], elements: &[f64], saturate: bool, round: &str) -> Self {
        match SmallFloat::new(dtype, saturate, round) {
            Some(f) => Self::from_bytes(dtype, dims, &elements.iter().map(|&x| f.encode(x)).collect::<Vec<_>>()),
            None if dtype.is_small() => Self::from_ints(dtype, dims, &elements.iter().map(|&x| i128::from(x as i32)).collect::<Vec<_>>()),
            None => Self::from_f64s(dtype, dims, elements),
        }
    }

    /// The bytes as elements of the type that memory holds them in.
    pub fn stored(&self) -> Self {
        Tensor { dtype: self.dtype.storage(), dims: self.dims.clone(), words: self.words.clone() }
    }

    /// A tensor of any type from integers: integer types wrap, `bool` is "not zero".
    pub fn from_ints(dtype: DType, dims: &[usize], elements: &[i128]) -> Self {
        match dtype {
            DType::Bool => Self::from_bools(dims, elements.iter().map(|&x| x != 0)),
            DType::I8 => Self::from_slice(dims, &elements.iter().map(|&x| x as i8).collect::<Vec<_>>()),
            DType::I16 => Self::from_slice(dims, &elements.iter().map(|&x| x as i16).collect::<Vec<_>>()),
            DType::I32 => Self::from_slice(dims, &elements.iter().map(|&x| x as i32).collect::<Vec<_>>()),
            DType::I64 => Self::from_slice(dims, &elements.iter().map(|&x| x as i64).collect::<Vec<_>>()),
            DType::U8 => Self::from_slice(dims, &elements.iter().map(|&x| x as u8).collect::<Vec<_>>()),
            DType::U16 => Self::from_slice(dims, &elements.iter().map(|&x| x as u16).collect::<Vec<_>>()),
            DType::U32 => Self::from_slice(dims, &elements.iter().map(|&x| x as u32).collect::<Vec<_>>()),
            DType::U64 => Self::from_slice(dims, &elements.iter().map(|&x| x as u64).collect::<Vec<_>>()),
            DType::I4 | DType::I2 | DType::U4 | DType::U2 => {
                let spare = 128 - dtype.packed_bits();
                let wrap = |x: i128| if dtype.is_signed() { x << spare >> spare } else { ((x as u128) << spare >> spare) as i128 };
                Self::from_bytes(dtype, dims, &elements.iter().map(|&x| wrap(x) as u8).collect::<Vec<_>>())
            }
            _ => Self::from_f64s(dtype, dims, &elements.iter().map(|&x| x as f64).collect::<Vec<_>>()),
        }
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(x: T) -> Self {
        Self::from_slice(&[], &[x])
    }

    /// All elements zero (or false).
    pub fn zeros(dtype: DType, dims: &[usize]) -> Self {
        let len = n_elements(dims) * dtype.size_bytes();
        Tensor { dtype, dims: dims.to_vec(), words: Arc::new(vec![0; len.div_ceil(8)]) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        n_elements(&self.dims)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type and shape.
    pub fn ty(&self) -> Type {
        Type::fixed(self.dtype, &self.dims)
    }

    /// The bytes, row-major and little-endian.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len() * self.dtype.size_bytes()]
    }

    /// The elements, row-major.
    ///
    /// # Panics
    /// If `T` is not the element type (`u8` reads `bool` too).
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert!(
            T::DTYPE == self.dtype || (T::DTYPE == DType::U8 && self.dtype == DType::Bool),
            "a {} tensor read as {}",
            self.dtype,
            T::DTYPE
        );
        bytemuck::cast_slice(self.bytes())
    }

    /// Every element as `f64` (64-bit integers round).
    pub fn to_f64s(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.as_slice::<f32>().iter().map(|&x| x.into()).collect(),
            DType::F64 => self.as_slice::<f64>().to_vec(),
            DType::F16 => self.as_slice::<f16>().iter().map(|&x| x.into()).collect(),
            DType::BF16 => self.as_slice::<bf16>().iter().map(|&x| x.into()).collect(),
            small => match SmallFloat::new(small, true, "up") {
                Some(f) => self.bytes().iter().map(|&code| f.values.get(usize::from(code)).copied().unwrap_or(f64::NAN)).collect(),
                None => self.to_ints().into_iter().map(|x| x as f64).collect(),
            },
        }
    }

    /// Every element as an integer: floats truncate, `bool` is 0 or 1.
    pub fn to_ints(&self) -> Vec<i128> {
        match self.dtype {
            DType::Bool | DType::U8 => self.as_slice::<u8>().iter().map(|&x| x.into()).collect(),
            DType::I8 => self.as_slice::<i8>().iter().map(|&x| x.into()).collect(),
            DType::I16 => self.as_slice::<i16>().iter().map(|&x| x.into()).collect(),
            DType::I32 => self.as_slice::<i32>().iter().map(|&x| x.into()).collect(),
            DType::I64 => self.as_slice::<i64>().iter().map(|&x| x.into()).collect(),
            DType::U16 => self.as_slice::<u16>().iter().map(|&x| x.into()).collect(),
            DType::U32 => self.as_slice::<u32>().iter().map(|&x| x.into()).collect(),
            DType::U64 => self.as_slice::<u64>().iter().map(|&x| x.into()).collect(),
            DType::U4 | DType::U2 | DType::I4 | DType::I2 => self.stored().to_ints(),
            _ => self.to_f64s().into_iter().map(|x| x as i128).collect(),
        }
    }

    /// The bytes under other extents with the same product.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshape(&self, dims: &[usize]) -> Self {
        assert_eq!(n_elements(dims), self.len(), "reshape of {:?} to {dims:?}", self.dims);
        Tensor { dtype: self.dtype, dims: dims.to_vec(), words: self.words.clone() }
    }

    /// The first elements along every axis, as many as `dims` say.
    pub fn first(&self, dims: &[usize]) -> Self {
        let strides = row_major_strides(&self.dims);
        self.gather(dims, |at| Some(at.iter().zip(&strides).map(|(i, s)| i * s).sum()))
    }

    /// The tensor whose element at `index` is `self`'s at `source(index)`, both multi-dimensional.
    pub fn gather(&self, dims: &[usize], mut source: impl FnMut(&[usize]) -> Option<usize>) -> Self {
        let size = self.dtype.size_bytes();
        let bytes = self.bytes();
        let mut out = vec![0u8; n_elements(dims) * size];
        for_each_index(dims, |flat, index| {
            if let Some(at) = source(index) {
                out[flat * size..][..size].copy_from_slice(&bytes[at * size..][..size]);
            }
        });
        Self::from_bytes(self.dtype, dims, &out)
    }
}

/// Calls `f(flat, index)` for every index of `dims`, row-major.
pub fn for_each_index(dims: &[usize], mut f: impl FnMut(usize, &[usize])) {
    let mut index = vec![0; dims.len()];
    for flat in 0..n_elements(dims) {
        f(flat, &index);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

impl Tensor {
    /// Whether it is a copy of another that shares its bytes.
    pub fn shares(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.words, &other.words) && self.dtype == other.dtype && self.dims == other.dims
    }
}

impl PartialEq for Tensor {
    /// Equality of bits: NaN equals itself, `-0.0` differs from `0.0`.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.dims == other.dims && self.bytes() == other.bytes()
    }
}

impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ty())?;
        if self.len() <= 16 {
            if self.dtype.is_float() { write!(f, " {:?}", self.to_f64s()) } else { write!(f, " {:?}", self.to_ints()) }
        } else {
            f.write_str(" ...")
        }
    }
}
