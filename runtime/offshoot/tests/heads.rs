//! Heads end in the same bits everywhere: digests of what a thousand steps lead to. The numbers below were printed by
//! the host, an emulated Cortex-M4 and an emulated Cortex-M3 (no floating-point unit), that of the usual shrinkage by the host alone; a change of
//! arithmetic, or of its order, changes them.

#[path = "heads/digests.rs"]
mod digests;

#[test]
fn a_thousand_steps_end_in_these_bits() {
    let mut shown = Vec::new();
    digests::all(|name, digest| shown.push((name, digest)));
    let expected = [
        ("softmax", 0x0f7b_14ea),
        ("nearest mean", 0xec58_2880),
        ("nearest mean, int8", 0x93e5_32ed),
        ("lda", 0x96f3_ddef),
        ("lda, usual shrinkage", 0x7a1d_5799),
        ("least squares", 0x1034_6ca5),
        ("simplex", 0xf55e_0022),
        ("boosted", 0xaaa9_52ea),
    ];
    assert_eq!(shown, expected);
}
