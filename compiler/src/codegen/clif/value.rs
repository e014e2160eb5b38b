//! Registers of the nest as Cranelift values.
//!
//! A scalar is one scalar value. A vector is a list of 128-bit vectors; one shorter than 128 bits is the low lanes of a
//! single vector, whose other lanes hold anything. Half floats are held as 16-bit integers. A vector of `bool` is a mask
//! with lanes as wide as those of the comparison that made it; its width is kept beside it and changed where it is used.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Block, ConstantData, Endianness, InstBuilder, MemFlagsData, Type, types};

use super::function::Lower;
use crate::codegen::CodegenError;
use crate::nest::{Reg, Scalar, VecType};
use crate::tensor::DType;

/// What the target's vector unit offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// x86-64, otherwise aarch64.
    pub(super) x86: bool,
    /// Fused multiply-add.
    pub(super) fma: bool,
    /// Rounding instructions, blends, and 64-bit comparisons.
    pub(super) sse42: bool,
    /// Operands in memory at any address.
    pub(super) avx: bool,
}

/// The value of a register.
#[derive(Clone, Debug)]
pub(super) struct Val {
    pub(super) parts: Vec<ir::Value>,
    /// Bytes of a mask's lane; 0 for anything else.
    pub(super) mask_bytes: usize,
}

impl Val {
    pub(super) fn scalar(value: ir::Value) -> Self {
        Val { parts: vec![value], mask_bytes: 0 }
    }

    pub(super) fn vector(parts: Vec<ir::Value>) -> Self {
        Val { parts, mask_bytes: 0 }
    }

    pub(super) fn mask(parts: Vec<ir::Value>, mask_bytes: usize) -> Self {
        Val { parts, mask_bytes }
    }
}

/// Mask width across loops and joins, and of masks made from scalars.
const CANONICAL_MASK_BYTES: usize = 4;

/// The Cranelift type of a scalar.
pub(super) fn lane_type(dtype: DType) -> Type {
    match dtype {
        DType::Bool | DType::I8 | DType::U8 => types::I8,
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => types::I16,
        DType::I32 | DType::U32 => types::I32,
        DType::I64 | DType::U64 => types::I64,
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        small => lane_type(small.storage()),
    }
}

/// The 128-bit vector of integers of a width.
pub(super) fn int_vector(bytes: usize) -> Type {
    match bytes {
        1 => types::I8X16,
        2 => types::I16X8,
        4 => types::I32X4,
        _ => types::I64X2,
    }
}

/// The 128-bit vector of a (not `bool`) element type.
pub(super) fn part_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32X4,
        DType::F64 => types::F64X2,
        _ => int_vector(dtype.size_bytes()),
    }
}

/// How many 128-bit vectors hold `lanes` lanes.
pub(super) fn n_parts(lanes: u32, lane_bytes: usize) -> usize {
    (lanes as usize * lane_bytes).div_ceil(16)
}

/// The bits of a constant of an element type, at its width; `bool` is one byte.
pub(super) fn constant_bits(dtype: DType, c: Scalar) -> u64 {
    let as_float = match c {
        Scalar::Float(x) => x,
        Scalar::Int(x) => x as f64,
    };
    let as_int = match c {
        Scalar::Float(x) => x as i64,
        Scalar::Int(x) => x,
    };
    match dtype {
        DType::F16 => crate::tensor::round_f16(as_float).to_bits().into(),
        DType::BF16 => crate::tensor::round_bf16(as_float).to_bits().into(),
        DType::F32 => (as_float as f32).to_bits().into(),
        DType::F64 => as_float.to_bits(),
        DType::Bool => u64::from(as_int != 0),
        _ => as_int as u64 & (u64::MAX >> (64 - dtype.bits())),
    }
}

impl Lower<'_, '_> {
    /// The value with another type for its bits.
    pub(super) fn cast(&mut self, x: ir::Value, ty: Type) -> ir::Value {
        if self.b.func.dfg.value_type(x) == ty {
            return x;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), x)
    }

    pub(super) fn casts(&mut self, parts: &[ir::Value], ty: Type) -> Vec<ir::Value> {
        parts.iter().map(|&p| self.cast(p, ty)).collect()
    }

    /// A vector constant with the same lanes throughout.
    pub(super) fn splat_bits(&mut self, ty: Type, bits: u64) -> ir::Value {
        let lane = ty.lane_type().bytes() as usize;
        let bytes: Vec<u8> = bits.to_le_bytes()[..lane].iter().copied().cycle().take(16).collect();
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(ty, constant)
    }

    /// A constant register.
    pub(super) fn make_constant(&mut self, ty: VecType, c: Scalar) -> Val {
        let bits = constant_bits(ty.dtype, c);
        if ty.lanes > 1 {
            if ty.dtype == DType::Bool {
                let part = self.splat_bits(int_vector(CANONICAL_MASK_BYTES), 0u64.wrapping_sub(bits));
                return Val::mask(vec![part; n_parts(ty.lanes, CANONICAL_MASK_BYTES)], CANONICAL_MASK_BYTES);
            }
            let part = self.splat_bits(part_type(ty.dtype), bits);
            return Val::vector(vec![part; n_parts(ty.lanes, ty.dtype.size_bytes())]);
        }
        Val::scalar(self.scalar_bits(ty.dtype, bits))
    }

    pub(super) fn scalar_bits(&mut self, dtype: DType, bits: u64) -> ir::Value {
        match dtype {
            DType::F32 => self.b.ins().f32const(f32::from_bits(bits as u32)),
            DType::F64 => self.b.ins().f64const(f64::from_bits(bits)),
            _ => self.b.ins().iconst(lane_type(dtype), bits as i64),
        }
    }

    /// The values that carry a register into a block.
    pub(super) fn carried_parts(&mut self, reg: Reg) -> Result<Vec<ir::Value>, CodegenError> {
        let (ty, val) = (self.ty(reg), self.get(reg)?);
        if ty.dtype == DType::Bool && ty.lanes > 1 {
            return Ok(self.resize_mask(ty.lanes, &val, CANONICAL_MASK_BYTES));
        }
        Ok(val.parts)
    }

    /// Parameters of a block that receive [`Self::carried_parts`].
    pub(super) fn carried_params(&mut self, block: Block, reg: Reg) -> Val {
        let ty = self.ty(reg);
        if ty.lanes == 1 {
            return Val::scalar(self.b.append_block_param(block, lane_type(ty.dtype)));
        }
        let (part, bytes, mask_bytes) = match ty.dtype {
            DType::Bool => (int_vector(CANONICAL_MASK_BYTES), CANONICAL_MASK_BYTES, CANONICAL_MASK_BYTES),
            dtype => (part_type(dtype), dtype.size_bytes(), 0),
        };
        let parts = (0..n_parts(ty.lanes, bytes)).map(|_| self.b.append_block_param(block, part)).collect();
        Val { parts, mask_bytes }
    }

    /// Loads all lanes of `ty` from consecutive elements.
    pub(super) fn load(&mut self, ty: VecType, address: ir::Value, displacement: i32) -> Val {
        let flags = MemFlagsData::new().with_notrap();
        if ty.lanes == 1 {
            let x = self.b.ins().load(lane_type(ty.dtype), flags, address, displacement);
            return Val::scalar(if ty.dtype == DType::Bool { self.b.ins().icmp_imm_s(IntCC::NotEqual, x, 0) } else { x });
        }
        let total = ty.lanes as usize * ty.dtype.size_bytes();
        let part = part_type(ty.dtype);
        let parts: Vec<ir::Value> = match total {
            2 => {
                let x = self.b.ins().load(types::I16, flags, address, displacement);
                let x = self.b.ins().uextend(types::I32, x);
                let x = self.b.ins().scalar_to_vector(types::I32X4, x);
                vec![self.cast(x, part)]
            }
            4 | 8 => {
                // On x86-64 a scalar float moves through a cleared register; on aarch64 an integer changes register files.
                let (scalar, vector) = match (self.caps.x86, total) {
                    (true, 4) => (types::I32, types::I32X4),
                    (true, _) => (types::I64, types::I64X2),
                    (false, 4) => (types::F32, types::F32X4),
                    (false, _) => (types::F64, types::F64X2),
                };
                let x = self.b.ins().load(scalar, flags, address, displacement);
                let x = self.b.ins().scalar_to_vector(vector, x);
                vec![self.cast(x, part)]
            }
            _ => {
                // Cranelift 0.135 makes a load the operand of `cmpps` and `cmppd` wherever it is; without AVX these trap unless it is aligned.
                let loaded = if self.caps.avx { part } else { int_vector(ty.dtype.size_bytes()) };
                let load = |i: usize| {
                    let x = self.b.ins().load(loaded, flags, address, displacement + i as i32 * 16);
                    self.cast(x, part)
                };
                (0..total / 16).map(load).collect()
            }
        };
        if ty.dtype != DType::Bool {
            return Val::vector(parts);
        }
        let zero = self.splat_bits(types::I8X16, 0);
        Val::mask(parts.into_iter().map(|p| self.b.ins().icmp(IntCC::NotEqual, p, zero)).collect(), 1)
    }

    /// Stores all lanes to consecutive elements.
    pub(super) fn store(&mut self, ty: VecType, val: &Val, address: ir::Value, displacement: i32) {
        let flags = MemFlagsData::new().with_notrap();
        if ty.lanes == 1 {
            self.b.ins().store(flags, val.parts[0], address, displacement);
            return;
        }
        let parts = if ty.dtype == DType::Bool { self.mask_to_bytes(ty.lanes, val) } else { val.parts.clone() };
        let total = ty.lanes as usize * ty.dtype.size_bytes();
        if total < 16 {
            let vector = match total {
                2 => types::I16X8,
                4 => types::F32X4,
                _ => types::F64X2,
            };
            let x = self.cast(parts[0], vector);
            let x = self.b.ins().extractlane(x, 0);
            self.b.ins().store(flags, x, address, displacement);
            return;
        }
        for (i, part) in parts.into_iter().enumerate() {
            self.b.ins().store(flags, part, address, displacement + i as i32 * 16);
        }
    }

    fn mask_to_bytes(&mut self, lanes: u32, val: &Val) -> Vec<ir::Value> {
        let one = self.splat_bits(types::I8X16, 1);
        let parts = self.resize_mask(lanes, val, 1);
        parts.into_iter().map(|p| self.b.ins().band(p, one)).collect()
    }

    /// The parts of a mask with lanes of another width, as integer vectors.
    pub(super) fn resize_mask(&mut self, lanes: u32, val: &Val, bytes: usize) -> Vec<ir::Value> {
        let mut parts = val.parts.clone();
        let mut width = val.mask_bytes;
        while width < bytes {
            parts = self.widen_ints(lanes, &parts, width, true);
            width *= 2;
        }
        while width > bytes {
            parts = self.narrow_pairs(
                &parts,
                |lower, a, b| {
                    if width == 8 { lower.every_other_word(a, b) } else { lower.b.ins().snarrow(a, b) }
                },
            );
            width /= 2;
        }
        parts
    }

    /// Integer lanes of twice the width.
    pub(super) fn widen_ints(&mut self, lanes: u32, parts: &[ir::Value], bytes: usize, signed: bool) -> Vec<ir::Value> {
        let n = n_parts(lanes, 2 * bytes);
        let mut wide = Vec::with_capacity(n);
        for i in 0..n {
            let part = parts[i / 2];
            wide.push(match (i % 2, signed) {
                (0, true) => self.b.ins().swiden_low(part),
                (0, false) => self.b.ins().uwiden_low(part),
                (_, true) => self.b.ins().swiden_high(part),
                (_, false) => self.b.ins().uwiden_high(part),
            });
        }
        wide
    }

    /// Combines every two parts into one, a single part with itself.
    pub(super) fn narrow_pairs(
        &mut self,
        parts: &[ir::Value],
        mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Vec<ir::Value> {
        parts.chunks(2).map(|pair| f(self, pair[0], *pair.last().expect("a chunk has an element"))).collect()
    }

    /// The even 32-bit lanes of two vectors.
    pub(super) fn every_other_word(&mut self, a: ir::Value, b: ir::Value) -> ir::Value {
        let (a, b) = (self.cast(a, types::I8X16), self.cast(b, types::I8X16));
        let x = self.shuffle(a, b, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]);
        self.cast(x, types::I32X4)
    }

    /// Bytes of two byte vectors, in the order given.
    pub(super) fn shuffle(&mut self, a: ir::Value, b: ir::Value, bytes: [u8; 16]) -> ir::Value {
        let order = self.b.func.dfg.immediates.push(ConstantData::from(&bytes[..]));
        self.b.ins().shuffle(a, b, order)
    }

    /// The scalars of all lanes; a mask's lanes are 0 or 1.
    pub(super) fn lanes(&mut self, ty: VecType, val: &Val) -> Vec<ir::Value> {
        (0..ty.lanes).map(|i| self.lane(ty, val, i)).collect()
    }

    /// The scalar of one lane.
    pub(super) fn lane(&mut self, ty: VecType, val: &Val, lane: u32) -> ir::Value {
        if ty.lanes == 1 {
            return val.parts[0];
        }
        let bytes = if ty.dtype == DType::Bool { val.mask_bytes } else { ty.dtype.size_bytes() };
        let per_part = 16 / bytes as u32;
        let x = self.b.ins().extractlane(val.parts[(lane / per_part) as usize], (lane % per_part) as u8);
        if ty.dtype == DType::Bool { self.b.ins().icmp_imm_s(IntCC::NotEqual, x, 0) } else { x }
    }

    /// A vector of scalars.
    pub(super) fn pack(&mut self, ty: VecType, scalars: &[ir::Value]) -> Val {
        if ty.lanes == 1 {
            return Val::scalar(scalars[0]);
        }
        let scalars: Vec<ir::Value> =
            if ty.dtype == DType::Bool { scalars.iter().map(|&s| self.bool_to_mask_lane(s)).collect() } else { scalars.to_vec() };
        let (bytes, part) = match ty.dtype {
            DType::Bool => (CANONICAL_MASK_BYTES, int_vector(CANONICAL_MASK_BYTES)),
            dtype => (dtype.size_bytes(), part_type(dtype)),
        };
        let parts = scalars
            .chunks(16 / bytes)
            .map(|lanes| {
                let mut x = if bytes < 4 {
                    let wide = self.b.ins().uextend(types::I32, lanes[0]);
                    let x = self.b.ins().scalar_to_vector(types::I32X4, wide);
                    self.cast(x, part)
                } else {
                    self.b.ins().scalar_to_vector(part, lanes[0])
                };
                for (i, &lane) in lanes.iter().enumerate().skip(1) {
                    x = self.b.ins().insertlane(x, lane, i as u8);
                }
                x
            })
            .collect();
        Val { parts, mask_bytes: if ty.dtype == DType::Bool { bytes } else { 0 } }
    }

    /// A scalar in every lane.
    pub(super) fn splat(&mut self, ty: VecType, scalar: ir::Value) -> Val {
        if ty.lanes == 1 {
            return Val::scalar(scalar);
        }
        if ty.dtype == DType::Bool {
            let lane = self.bool_to_mask_lane(scalar);
            let part = self.b.ins().splat(int_vector(CANONICAL_MASK_BYTES), lane);
            return Val::mask(vec![part; n_parts(ty.lanes, CANONICAL_MASK_BYTES)], CANONICAL_MASK_BYTES);
        }
        let part = self.b.ins().splat(part_type(ty.dtype), scalar);
        Val::vector(vec![part; n_parts(ty.lanes, ty.dtype.size_bytes())])
    }

    fn bool_to_mask_lane(&mut self, scalar: ir::Value) -> ir::Value {
        let wide = self.b.ins().uextend(types::I32, scalar);
        self.b.ins().ineg(wide)
    }

    /// A scalar in lane 0 of a vector, for operations that only vectors have.
    pub(super) fn in_vector(&mut self, x: ir::Value) -> ir::Value {
        let ty = self.b.func.dfg.value_type(x);
        let lanes = 16 / ty.bytes();
        let vector = ty.by(lanes).expect("a 128-bit vector");
        self.b.ins().scalar_to_vector(vector, x)
    }
}
