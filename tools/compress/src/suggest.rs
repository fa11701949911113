//! Names near one that is unknown, for messages.

/// Most names to suggest.
const MOST: usize = 3;
/// Least similarity (Jaro and Winkler, 0 to 1) of a name that is worth suggesting.
const LEAST: f64 = 0.7;

/// The names in `known` most like `wanted`, as the end of a message: `; did you mean `a` or `b`?`, or nothing if none is
/// alike. A name that contains `wanted`, or is contained in it, comes first.
pub fn near<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let lower = wanted.to_lowercase();
    let mut found: Vec<(f64, &str)> = known
        .into_iter()
        .filter(|name| !name.is_empty() && *name != wanted)
        .map(|name| {
            let other = name.to_lowercase();
            let part = !lower.is_empty() && (other.contains(&lower) || lower.contains(&other));
            (strsim::jaro_winkler(&lower, &other) + f64::from(u8::from(part)), name)
        })
        .filter(|(likeness, _)| *likeness >= LEAST)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    found.dedup();
    let names: Vec<String> = found.iter().take(MOST).map(|(_, name)| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_others_are_not() {
        let known = ["conv1.weight", "conv2.weight", "head.bias", "/features/0/Conv"];
        assert_eq!(near("conv1.wieght", known), "; did you mean `conv1.weight` or `conv2.weight`?");
        assert_eq!(near("Features", known), "; did you mean `/features/0/Conv`?");
        assert_eq!(near("zzz", known), "");
        assert_eq!(near("", known), "");
    }
}
