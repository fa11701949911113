pub use crate::learn::heads::*;
