//! Names of tensors, each used once.

use std::collections::HashMap;

/// The names in use, with the number of requests for each.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, usize>);

impl Names {
    /// `wanted`, or a similar name if that is in use.
    pub(crate) fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while self.0.contains_key(&name) {
            let n = self.0.entry(wanted.to_owned()).or_insert(1);
            *n += 1;
            name = format!("{wanted}#{n}");
        }
        self.0.insert(name.clone(), 1);
        name
    }
}
