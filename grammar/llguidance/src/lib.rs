//! Makes llguidance's C functions part of the static library: see grammar/llguidance_abi.h.
pub use llguidance::ffi::*;
