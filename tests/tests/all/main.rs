//! Everything that must hold, seen from outside.

mod conformance;
