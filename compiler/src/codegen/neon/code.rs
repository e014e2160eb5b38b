//! The instructions of A64 that the emitter uses: name, bits, and how operands lie in them.
//!
//! Words are those of the Arm Architecture Reference Manual with all register fields zero; vectors have four lanes of 32 bits, or two
//! where bit 30 is zero.

/// How the operands of an instruction are written and encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// `vd.4s, vn.4s, vm.4s`.
    Lanes3,
    /// `vd.16b, vn.16b, vm.16b`.
    Bytes3,
    /// `vd.4s, vn.4s`.
    Lanes2,
    /// `vd.16b, vn.16b`.
    Bytes2,
    /// `vd.4s, vn.4s, vm.s[lane]`.
    Element,
    /// `vd.4s, vn.4s, #left`.
    ShiftLeft,
    /// `vd.4s, vn.4s, #right`.
    ShiftRight,
    /// `vd.4s, vn.s[lane]`.
    DupLane,
    /// `sd, vn.s[lane]`.
    ScalarLane,
    /// `vd.s[lane], vn.s[0]`.
    InsertLane,
    /// `vd.16b, vn.16b, vm.16b, #bytes`.
    Extract,
    /// `vd.4s, #0`.
    Zero,
    /// Between files: the letters of the destination's and the source's register.
    Between(char, char),
    /// `xd, xn, xm`.
    General3,
    /// `xd, xn, xm, lsl #n`.
    General3Shifted,
    /// `xd, xn, xm, xa`.
    General4,
    /// `xd, xm`.
    GeneralMove,
    /// `xn, xm`, nothing written but flags.
    GeneralCompare,
    /// `xd, xn, #imm`: 12 bits, or as many shifted by 12.
    GeneralImmediate,
    /// `xn, #imm`, nothing written but flags.
    CompareImmediate,
    /// `xd, xn, #n`.
    GeneralShift,
    /// `xd, #imm`, any number.
    Constant,
    /// `xd, xn, xm, ne` and the like: the condition is the immediate.
    Choose,
    /// `wd, cond`: all ones where it holds.
    SetMask,
    /// Memory of so many bytes, through a register of this letter.
    Memory(char, u32),
    /// Two registers of sixteen bytes.
    Pair,
    /// A hint.
    Prefetch,
}

macro_rules! codes {
    ($($code:ident $name:literal $bits:literal $shape:expr;)*) => {
        /// An instruction without its operands.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Code { $($code,)* }

        impl Code {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &'static [Code] = &[$(Code::$code,)*];

            /// Name, word and shape.
            pub(super) fn form(self) -> (&'static str, u32, Shape) {
                use Shape::*;
                match self { $(Code::$code => ($name, $bits, $shape),)* }
            }
        }
    };
}

codes! {
    Fadd "fadd" 0x0E20D400 Lanes3;
    Fsub "fsub" 0x0EA0D400 Lanes3;
    Fmul "fmul" 0x2E20DC00 Lanes3;
    Fdiv "fdiv" 0x2E20FC00 Lanes3;
    Fmla "fmla" 0x0E20CC00 Lanes3;
    Fmax "fmax" 0x0E20F400 Lanes3;
    Fmin "fmin" 0x0EA0F400 Lanes3;
    Fmaxnm "fmaxnm" 0x0E20C400 Lanes3;
    Fminnm "fminnm" 0x0EA0C400 Lanes3;
    Fcmeq "fcmeq" 0x0E20E400 Lanes3;
    Fcmge "fcmge" 0x2E20E400 Lanes3;
    Fcmgt "fcmgt" 0x2EA0E400 Lanes3;
    Add "add" 0x0EA08400 Lanes3;
    Sub "sub" 0x2EA08400 Lanes3;
    Mul "mul" 0x0EA09C00 Lanes3;
    Mla "mla" 0x0EA09400 Lanes3;
    Smax "smax" 0x0EA06400 Lanes3;
    Smin "smin" 0x0EA06C00 Lanes3;
    Umax "umax" 0x2EA06400 Lanes3;
    Umin "umin" 0x2EA06C00 Lanes3;
    Cmeq "cmeq" 0x2EA08C00 Lanes3;
    Cmgt "cmgt" 0x0EA03400 Lanes3;
    Cmge "cmge" 0x0EA03C00 Lanes3;
    Cmhi "cmhi" 0x2EA03400 Lanes3;
    Cmhs "cmhs" 0x2EA03C00 Lanes3;
    Zip1 "zip1" 0x0E803800 Lanes3;
    Zip2 "zip2" 0x0E807800 Lanes3;
    Uzp1 "uzp1" 0x0E801800 Lanes3;
    Uzp2 "uzp2" 0x0E805800 Lanes3;
    And "and" 0x0E201C00 Bytes3;
    Orr "orr" 0x0EA01C00 Bytes3;
    Eor "eor" 0x2E201C00 Bytes3;
    Bsl "bsl" 0x2E601C00 Bytes3;
    Bit "bit" 0x2EA01C00 Bytes3;
    Bif "bif" 0x2EE01C00 Bytes3;
    Fneg "fneg" 0x2EA0F800 Lanes2;
    Fabs "fabs" 0x0EA0F800 Lanes2;
    Fsqrt "fsqrt" 0x2EA1F800 Lanes2;
    Frintm "frintm" 0x0E219800 Lanes2;
    Frintp "frintp" 0x0EA18800 Lanes2;
    Frintz "frintz" 0x0EA19800 Lanes2;
    Frintn "frintn" 0x0E218800 Lanes2;
    Neg "neg" 0x2EA0B800 Lanes2;
    Abs "abs" 0x0EA0B800 Lanes2;
    Scvtf "scvtf" 0x0E21D800 Lanes2;
    Ucvtf "ucvtf" 0x2E21D800 Lanes2;
    Fcvtzs "fcvtzs" 0x0EA1B800 Lanes2;
    Fcvtzu "fcvtzu" 0x2EA1B800 Lanes2;
    Not "not" 0x2E205800 Bytes2;
    Move "mov" 0x0EA01C00 Bytes2;
    FmlaElement "fmla" 0x0F801000 Element;
    FmulElement "fmul" 0x0F809000 Element;
    Shl "shl" 0x0F005400 ShiftLeft;
    Sshr "sshr" 0x0F000400 ShiftRight;
    Ushr "ushr" 0x2F000400 ShiftRight;
    Dup "dup" 0x0E040400 DupLane;
    LaneScalar "mov" 0x5E040400 ScalarLane;
    Insert "mov" 0x6E040400 InsertLane;
    Extract "ext" 0x2E000000 Extract;
    Zeros "movi" 0x0F000400 Zero;
    FmovToW "fmov" 0x1E260000 Between('w', 's');
    FmovFromW "fmov" 0x1E270000 Between('s', 'w');
    ScvtfX "scvtf" 0x9E220000 Between('s', 'x');
    FcvtzsX "fcvtzs" 0x9E380000 Between('x', 's');
    Sxtw "sxtw" 0x93407C00 Between('x', 'w');
    AddX "add" 0x8B000000 General3;
    SubX "sub" 0xCB000000 General3;
    MulX "mul" 0x9B007C00 General3;
    AddShiftedX "add" 0x8B000000 General3Shifted;
    MaddX "madd" 0x9B000000 General4;
    MoveX "mov" 0xAA0003E0 GeneralMove;
    CompareX "cmp" 0xEB00001F GeneralCompare;
    AddImmX "add" 0x91000000 GeneralImmediate;
    SubImmX "sub" 0xD1000000 GeneralImmediate;
    SubsImmX "subs" 0xF1000000 GeneralImmediate;
    CompareImmX "cmp" 0xF100001F CompareImmediate;
    LslX "lsl" 0xD3400000 GeneralShift;
    SetX "mov" 0xD2800000 Constant;
    CselX "csel" 0x9A800000 Choose;
    Csetm "csetm" 0x5A9F03E0 SetMask;
    LoadQ "ldr" 0x3DC00000 Memory('q', 16);
    StoreQ "str" 0x3D800000 Memory('q', 16);
    LoadD "ldr" 0xFD400000 Memory('d', 8);
    StoreD "str" 0xFD000000 Memory('d', 8);
    LoadS "ldr" 0xBD400000 Memory('s', 4);
    StoreS "str" 0xBD000000 Memory('s', 4);
    LoadX "ldr" 0xF9400000 Memory('x', 8);
    StoreX "str" 0xF9000000 Memory('x', 8);
    LoadPair "ldp" 0xAD400000 Pair;
    Prefetch "prfm" 0xF9800000 Prefetch;
}

impl Code {
    /// Whether it has forms of two and of four lanes.
    pub(super) fn has_halves(self) -> bool {
        use Shape::{Bytes2, Bytes3, DupLane, Element, Extract, Lanes2, Lanes3, ShiftLeft, ShiftRight, Zero};
        matches!(self.form().2, Lanes3 | Bytes3 | Lanes2 | Bytes2 | Element | ShiftLeft | ShiftRight | DupLane | Extract | Zero)
    }
}

/// The condition of a jump or choice, by its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Condition {
    Eq = 0,
    Ne = 1,
    /// Not below, without sign.
    Hs = 2,
    Ge = 10,
    Lt = 11,
    Gt = 12,
    Le = 13,
    Always = 14,
}

impl Condition {
    /// The condition with a code.
    pub(super) fn of(code: i64) -> Option<Self> {
        use Condition::{Always, Eq, Ge, Gt, Hs, Le, Lt, Ne};
        [Eq, Ne, Hs, Ge, Lt, Gt, Le, Always].into_iter().find(|&c| c as i64 == code)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Condition::Eq => "eq",
            Condition::Ne => "ne",
            Condition::Hs => "hs",
            Condition::Ge => "ge",
            Condition::Lt => "lt",
            Condition::Gt => "gt",
            Condition::Le => "le",
            Condition::Always => "al",
        }
    }
}
