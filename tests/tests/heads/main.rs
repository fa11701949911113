//! Heads that learn something else than classes: what is normal, and real targets.

mod anomalies;
mod regression;
