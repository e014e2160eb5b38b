//! One instruction with its registers as a word, and as text that an assembler reads.

use super::code::{Code, Condition, Shape};

/// A memory operand with its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Address {
    /// Number of the base register, 31 being the stack pointer, and bytes.
    Offset(u8, i64),
    /// Numbers of base and index.
    Index(u8, u8),
    /// Bytes from this instruction.
    Here(i64),
}

/// An instruction with its registers' numbers, in the order of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Concrete {
    pub(super) code: Code,
    pub(super) registers: [u8; 4],
    pub(super) immediate: i64,
    pub(super) half: bool,
    pub(super) address: Option<Address>,
}

const VECTOR_BIT: u32 = 1 << 30;

/// An immediate of 12 bits, or of as many shifted by 12: its field.
pub(super) fn immediate_12(c: i64) -> Option<u32> {
    match c {
        0..4096 => Some((c as u32) << 10),
        4096..0x100_0000 if c & 0xfff == 0 => Some(1 << 22 | ((c >> 12) as u32) << 10),
        _ => None,
    }
}

/// Whether an access of so many bytes reaches so far.
pub(super) fn reaches(displacement: i64, bytes: i64) -> bool {
    (0..4096 * bytes).contains(&displacement) && displacement % bytes == 0 || (-256..256).contains(&displacement)
}

impl Concrete {
    /// The words: one, but for constants.
    ///
    /// # Errors
    /// What does not fit its field.
    pub(super) fn words(&self) -> Result<Vec<u32>, String> {
        let (name, bits, shape) = self.code.form();
        let no = || Err(format!("`{name}` takes no {} {:?}", self.immediate, self.address));
        let [d, n, m, a] = self.registers.map(u32::from);
        let bits = if self.code.has_halves() && !self.half { bits | VECTOR_BIT } else { bits };
        let lane = self.immediate as u32;
        let in_range = |range: std::ops::Range<i64>| range.contains(&self.immediate);
        Ok(vec![match shape {
            Shape::Lanes3 | Shape::Bytes3 | Shape::General3 => bits | m << 16 | n << 5 | d,
            Shape::Lanes2 | Shape::Between(..) => bits | n << 5 | d,
            Shape::Bytes2 if self.code == Code::Move => bits | n << 16 | n << 5 | d,
            Shape::Bytes2 => bits | n << 5 | d,
            Shape::Element if in_range(0..4) => bits | (lane & 1) << 21 | (lane >> 1) << 11 | m << 16 | n << 5 | d,
            Shape::ShiftLeft if in_range(0..32) => bits | (32 + lane) << 16 | n << 5 | d,
            Shape::ShiftRight if in_range(1..33) => bits | (64 - lane) << 16 | n << 5 | d,
            Shape::DupLane | Shape::ScalarLane | Shape::InsertLane if in_range(0..4) => bits | lane << 19 | n << 5 | d,
            Shape::Extract if in_range(0..if self.half { 8 } else { 16 }) => bits | lane << 11 | m << 16 | n << 5 | d,
            Shape::Zero => bits | d,
            Shape::General3Shifted if in_range(0..64) => bits | m << 16 | lane << 10 | n << 5 | d,
            Shape::General4 => bits | m << 16 | a << 10 | n << 5 | d,
            Shape::GeneralMove => bits | n << 16 | d,
            Shape::GeneralCompare => bits | n << 16 | d << 5,
            Shape::GeneralImmediate | Shape::CompareImmediate => match immediate_12(self.immediate) {
                Some(field) if shape == Shape::CompareImmediate => bits | field | d << 5,
                Some(field) => bits | field | n << 5 | d,
                None => return no(),
            },
            Shape::GeneralShift if in_range(0..64) => bits | ((64 - lane) % 64) << 16 | (63 - lane) << 10 | n << 5 | d,
            Shape::Constant => return Ok(constant(d, self.immediate)),
            Shape::Choose if Condition::of(self.immediate).is_some() => bits | m << 16 | lane << 12 | n << 5 | d,
            // The other condition leaves zeros.
            Shape::SetMask if Condition::of(self.immediate).is_some() => bits | (lane ^ 1) << 12 | d,
            Shape::Memory(_, bytes) => match self.access(bits, bytes) {
                Some(word) => word | d,
                None => return no(),
            },
            Shape::Prefetch => match self.access(bits, 8) {
                // For reading, to the second level, to stay.
                Some(word) => word | 2,
                None => return no(),
            },
            Shape::Pair => match self.address {
                Some(Address::Offset(base, at)) if at % 16 == 0 && (-64..64).contains(&(at / 16)) => {
                    bits | ((at / 16) as u32 % 128) << 15 | n << 10 | u32::from(base) << 5 | d
                }
                _ => return no(),
            },
            _ => return no(),
        }])
    }

    /// The word of an access with its address, of which `bits` is the form with a scaled offset.
    fn access(&self, bits: u32, bytes: u32) -> Option<u32> {
        let base = |b: u8| u32::from(b) << 5;
        match self.address? {
            Address::Offset(b, at) if at >= 0 && at % i64::from(bytes) == 0 && at / i64::from(bytes) < 4096 => {
                Some(bits | ((at / i64::from(bytes)) as u32) << 10 | base(b))
            }
            Address::Offset(b, at) if (-256..256).contains(&at) => Some(bits & !(1 << 24) | (at as u32 % 512) << 12 | base(b)),
            Address::Index(b, index) => Some(bits & !(1 << 24) | 1 << 21 | u32::from(index) << 16 | 0b011010 << 10 | base(b)),
            Address::Here(at) if self.code == Code::LoadQ && at % 4 == 0 && (-(1 << 20)..1 << 20).contains(&at) => {
                Some(0x9C00_0000 | ((at / 4) as u32 & 0x7_ffff) << 5)
            }
            _ => None,
        }
    }

    /// The instruction as text.
    pub(super) fn text(&self) -> String {
        let (name, _, shape) = self.code.form();
        let [d, n, m, a] = self.registers;
        let i = self.immediate;
        let (lanes, bytes) = if self.half { ("2s", "8b") } else { ("4s", "16b") };
        let condition = || Condition::of(i).map_or("?", Condition::name);
        match shape {
            Shape::Lanes3 => format!("{name} v{d}.{lanes}, v{n}.{lanes}, v{m}.{lanes}"),
            Shape::Bytes3 => format!("{name} v{d}.{bytes}, v{n}.{bytes}, v{m}.{bytes}"),
            Shape::Lanes2 => format!("{name} v{d}.{lanes}, v{n}.{lanes}"),
            Shape::Bytes2 => format!("{name} v{d}.{bytes}, v{n}.{bytes}"),
            Shape::Element => format!("{name} v{d}.{lanes}, v{n}.{lanes}, v{m}.s[{i}]"),
            Shape::ShiftLeft | Shape::ShiftRight => format!("{name} v{d}.{lanes}, v{n}.{lanes}, #{i}"),
            Shape::DupLane => format!("{name} v{d}.{lanes}, v{n}.s[{i}]"),
            Shape::ScalarLane => format!("{name} s{d}, v{n}.s[{i}]"),
            Shape::InsertLane => format!("{name} v{d}.s[{i}], v{n}.s[0]"),
            Shape::Extract => format!("{name} v{d}.{bytes}, v{n}.{bytes}, v{m}.{bytes}, #{i}"),
            Shape::Zero => format!("{name} v{d}.{lanes}, #0"),
            Shape::Between(to, from) => format!("{name} {to}{d}, {from}{n}"),
            Shape::General3 => format!("{name} x{d}, x{n}, x{m}"),
            Shape::General3Shifted => format!("{name} x{d}, x{n}, x{m}, lsl #{i}"),
            Shape::General4 => format!("{name} x{d}, x{n}, x{m}, x{a}"),
            Shape::GeneralMove => format!("{name} x{d}, x{n}"),
            Shape::GeneralCompare => format!("{name} x{d}, x{n}"),
            Shape::GeneralImmediate | Shape::GeneralShift => format!("{name} {}, {}, #{i}", general(d), general(n)),
            Shape::CompareImmediate => format!("{name} x{d}, #{i}"),
            Shape::Constant => format!("{name} x{d}, #{i}"),
            Shape::Choose => format!("{name} x{d}, x{n}, x{m}, {}", condition()),
            Shape::SetMask => format!("{name} w{d}, {}", condition()),
            Shape::Memory(letter, bytes) => {
                let name = if self.is_unscaled(bytes) { name.replace("dr", "dur").replace("str", "stur") } else { name.to_owned() };
                format!("{name} {letter}{d}, {}", self.place())
            }
            Shape::Pair => format!("{name} q{d}, q{n}, {}", self.place()),
            Shape::Prefetch => {
                let name = if self.is_unscaled(8) { "prfum" } else { name };
                format!("{name} pldl2keep, {}", self.place())
            }
        }
    }

    fn is_unscaled(&self, bytes: u32) -> bool {
        matches!(self.address, Some(Address::Offset(_, at)) if at < 0 || at % i64::from(bytes) != 0)
    }

    fn place(&self) -> String {
        match self.address {
            Some(Address::Offset(base, 0)) => format!("[{}]", general(base)),
            Some(Address::Offset(base, at)) => format!("[{}, #{at}]", general(base)),
            Some(Address::Index(base, index)) => format!("[{}, x{index}]", general(base)),
            Some(Address::Here(at)) => format!(". {} {}", if at < 0 { '-' } else { '+' }, at.abs()),
            None => "?".to_owned(),
        }
    }
}

fn general(n: u8) -> String {
    if n == 31 { "sp".to_owned() } else { format!("x{n}") }
}

/// Sets a register to a constant in as few words as its sixteen-bit parts allow.
fn constant(d: u32, c: i64) -> Vec<u32> {
    let parts = [0, 1, 2, 3].map(|i| (c >> (16 * i)) as u32 & 0xffff);
    let negative = parts.iter().filter(|&&p| p == 0xffff).count() > parts.iter().filter(|&&p| p == 0).count();
    let (blank, first) = if negative { (0xffff, 0x9280_0000) } else { (0, 0xD280_0000) };
    let mut words = vec![];
    for (i, &part) in (0u32..).zip(&parts).filter(|(_, p)| **p != blank) {
        let word = match words.is_empty() {
            true => first | i << 21 | (if negative { !part & 0xffff } else { part }) << 5,
            false => 0xF280_0000 | i << 21 | part << 5,
        };
        words.push(word | d);
    }
    if words.is_empty() {
        words.push(first | d);
    }
    words
}

/// The word of a jump by so many bytes.
pub(super) fn jump(condition: Condition, by: i64) -> Option<u32> {
    let (words, limit) = (by / 4, if condition == Condition::Always { 1 << 25 } else { 1 << 18 });
    if by % 4 != 0 || !(-limit..limit).contains(&words) {
        return None;
    }
    Some(match condition {
        Condition::Always => 0x1400_0000 | words as u32 & 0x3ff_ffff,
        condition => 0x5400_0000 | (words as u32 & 0x7_ffff) << 5 | condition as u32,
    })
}
