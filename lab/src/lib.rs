//! The load generator of the lab, which the benchmarks and the tests use as well.
//!
//! The program `bespeak-lab` (`main.rs`) has the flash-sale simulation and the comparison of locking strategies.

pub mod load;
