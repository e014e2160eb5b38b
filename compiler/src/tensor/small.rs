//! Element types of fewer than sixteen bits that only travel and convert: what each code means, and which code a number becomes.

use super::DType;

/// Values of a small floating-point type.
#[derive(Clone, Copy, Debug)]
struct Format {
    /// Bits of the exponent and of the fraction.
    exponent: u32,
    fraction: u32,
    bias: i32,
    /// What the codes beyond the finite ones are.
    ends: Ends,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ends {
    /// All finite.
    Finite,
    /// The last code is NaN, of both signs.
    LastNan,
    /// The last exponent is infinity and NaN.
    Ieee,
    /// Minus zero is NaN.
    ZeroNan,
}

fn format(dtype: DType) -> Option<Format> {
    let (exponent, fraction, bias, ends) = match dtype {
        DType::F8E4M3FN => (4, 3, 7, Ends::LastNan),
        DType::F8E4M3FNUZ => (4, 3, 8, Ends::ZeroNan),
        DType::F8E5M2 => (5, 2, 15, Ends::Ieee),
        DType::F8E5M2FNUZ => (5, 2, 16, Ends::ZeroNan),
        DType::F4E2M1 => (2, 1, 1, Ends::Finite),
        _ => return None,
    };
    Some(Format { exponent, fraction, bias, ends })
}

impl Format {
    fn sign_bit(self) -> u8 {
        1 << (self.exponent + self.fraction)
    }

    /// The greatest finite code without sign.
    fn greatest(self) -> u8 {
        let last = self.sign_bit() - 1;
        match self.ends {
            Ends::Finite | Ends::ZeroNan => last,
            Ends::LastNan => last - 1,
            Ends::Ieee => (((1 << self.exponent) - 1) << self.fraction) - 1,
        }
    }

    /// The value of a finite code without sign.
    fn magnitude(self, code: u8) -> f64 {
        let (e, f) = (i32::from(code >> self.fraction), f64::from(code & ((1 << self.fraction) - 1)));
        let unit = f64::from(1 << self.fraction);
        if e == 0 { f / unit * 2f64.powi(1 - self.bias) } else { (1.0 + f / unit) * 2f64.powi(e - self.bias) }
    }
}

/// Codes and values: decoding, and encoding by comparison with thresholds.
#[derive(Clone, Debug)]
pub struct SmallFloat {
    /// The value of each code.
    pub values: Vec<f64>,
    /// Codes of positive numbers grow by one where the magnitude is above each of these.
    pub thresholds: Vec<f64>,
    /// What is added to the code of a negative number.
    pub sign: u8,
    /// The code of NaN.
    pub nan: u8,
    /// Whether minus zero has no code of its own.
    pub one_zero: bool,
}

impl SmallFloat {
    /// Of a small floating-point type; `saturate` decides where numbers beyond the greatest go, `round` (`up`, `down`, `nearest`)
    /// how `f8e8m0` rounds.
    pub fn new(dtype: DType, saturate: bool, round: &str) -> Option<SmallFloat> {
        if dtype == DType::F8E8M0 {
            return Some(exponents(saturate, round));
        }
        let f = format(dtype)?;
        let (sign, last) = (f.sign_bit(), f.greatest());
        let nan = match f.ends {
            Ends::Finite => sign,
            Ends::LastNan => sign - 1,
            Ends::Ieee => last + 2,
            Ends::ZeroNan => sign,
        };
        let value = |code: u8| {
            let (magnitude, negative) = (code & (sign - 1), code & sign != 0);
            let value = match f.ends {
                Ends::ZeroNan if code == sign => return f64::NAN,
                _ if magnitude <= last => f.magnitude(magnitude),
                Ends::Ieee if magnitude == last + 1 => f64::INFINITY,
                _ => return f64::NAN,
            };
            if negative { -value } else { value }
        };
        let n_codes = 2 * usize::from(sign);
        // Between neighbours half way, which belongs to the even code: "above" the number before it.
        let middle = |low: f64, high: f64, code: u8| {
            let middle = f64::midpoint(low, high);
            if code % 2 == 1 { before(middle) } else { middle }
        };
        let mut thresholds: Vec<f64> = (0..last).map(|c| middle(f.magnitude(c), f.magnitude(c + 1), c)).collect();
        if !saturate && f.ends != Ends::Finite {
            let next = if last == sign - 1 { f.magnitude(last) * 2.0 - f.magnitude(last - 1) } else { f.magnitude(last + 1) };
            // The next code is infinity or NaN, except where NaN is elsewhere.
            thresholds.push(middle(f.magnitude(last), next, last));
        }
        Some(SmallFloat {
            values: (0..n_codes).map(|c| value(c as u8)).collect(),
            thresholds,
            sign,
            nan,
            one_zero: f.ends == Ends::ZeroNan,
        })
    }

    /// The code of a number. Beyond all codes is NaN.
    pub fn encode(&self, x: f64) -> u8 {
        let x = f64::from(x as f32);
        if x.is_nan() {
            return self.nan;
        }
        let code = self.thresholds.partition_point(|&t| x.abs() > t) as u8;
        if self.overflows(code) {
            return self.nan;
        }
        match x.is_sign_negative() {
            true if self.sign == 0 => {
                if x < 0.0 {
                    self.nan
                } else {
                    code
                }
            }
            true if code == 0 && self.one_zero => 0,
            true => code | self.sign,
            false => code,
        }
    }

    /// Whether a code without sign stands for what has none.
    pub fn overflows(&self, code: u8) -> bool {
        self.sign != 0 && code >= self.sign
    }
}

/// Powers of two.
fn exponents(saturate: bool, round: &str) -> SmallFloat {
    let mut values: Vec<f64> = (0..255).map(|e| 2f64.powi(e - 127)).collect();
    values.push(f64::NAN);
    let step = |low: f64| match round {
        "down" => before(low * 2.0),
        "nearest" => before(low * 1.5),
        _ => low,
    };
    let mut thresholds: Vec<f64> = (0..254).map(|c| step(values[c])).collect();
    if !saturate {
        thresholds.push(step(values[254]));
    }
    SmallFloat { values, thresholds, sign: 0, nan: 255, one_zero: true }
}

/// The greatest `f32` below a positive one: operands are of that precision.
fn before(x: f64) -> f64 {
    f64::from((x as f32).next_down())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for dtype in DType::SMALL {
            for saturate in [false, true] {
                let Some(f) = SmallFloat::new(dtype, saturate, "nearest") else { continue };
                for (code, &value) in f.values.iter().enumerate() {
                    if value.is_finite() {
                        assert_eq!(usize::from(f.encode(value)), code, "{dtype} {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn ends() {
        let code = |dtype, saturate, x| SmallFloat::new(dtype, saturate, "up").unwrap().encode(x);
        assert_eq!([code(DType::F8E4M3FN, true, 1e6), code(DType::F8E4M3FN, false, 1e6)], [0x7e, 0x7f]);
        assert_eq!([code(DType::F8E5M2, true, 1e6), code(DType::F8E5M2, false, -1e6)], [0x7b, 0xfc]);
        assert_eq!([code(DType::F8E4M3FNUZ, true, -1e6), code(DType::F8E4M3FNUZ, false, 1e6)], [0xff, 0x80]);
        assert_eq!([code(DType::F4E2M1, true, 2.5), code(DType::F4E2M1, true, -9.0)], [4, 15]);
        assert_eq!([code(DType::F8E8M0, true, 1.5), code(DType::F8E8M0, true, 1.0)], [128, 127]);
        assert_eq!(code(DType::F8E4M3FN, true, 464.0), 0x7e);
    }
}
