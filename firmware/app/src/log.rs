//! Log lines go to defmt on boards with a logger, and are dropped elsewhere. One macro for both.

macro_rules! log_info {
    ($($argument:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::info!($($argument),+);
        #[cfg(not(feature = "defmt"))]
        { let _ = ($(&$argument),+); }
    }};
}

macro_rules! log_warn {
    ($($argument:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($argument),+);
        #[cfg(not(feature = "defmt"))]
        { let _ = ($(&$argument),+); }
    }};
}

pub(crate) use {log_info, log_warn};
