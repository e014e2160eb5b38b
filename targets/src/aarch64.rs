//! 64-bit Arm: NEON is part of every CPU.

use crate::{Arch, Features, Level, Target};

pub(crate) fn target() -> Target {
    Target {
        arch: Arch::Aarch64,
        level: Level::Base,
        features: Features::NONE,
        vector_bits: 128,
        n_vector_registers: 32,
        n_fma_ports: 2,
        n_load_ports: 2,
        n_store_ports: 1,
        port_bits: 128,
        fma_latency_cycles: 4,
        l1d_bytes: 32 << 10,
        l1d_ways: 8,
        l2_bytes: 256 << 10,
        l3_bytes: 32 << 20,
        line_bytes: 64,
        l2_bytes_in_10_cycles: 200,
        l3_bytes_in_10_cycles: 100,
        memory_bytes_in_10_cycles: 36,
    }
}
