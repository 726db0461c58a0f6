//! The load generator, for the lab, the benchmarks and the tests.
//!
//! The program `bespeak-lab` (`main.rs`) has the flash-sale simulation and the comparison of locking strategies.

pub mod load;
