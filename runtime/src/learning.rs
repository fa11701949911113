pub use crate::engine::{Course, Lesson};
pub use crate::graph::learn::Learning;
