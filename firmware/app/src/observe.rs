//! Observers of a run. They report each operator when it ends, so nothing needs to be stored.

use crate::{Clock, StackGauge, link::Link};
use embedded_io::{Read, Write};
use offshoot::format::record::Tag;
use offshoot::trace::{Observer, OpInfo};
use offshoot::wire::{OperatorMeasurement, Response, crc32};

/// Count between two readings with nothing between them, to subtract from measurements.
#[inline(never)]
pub(crate) fn reading_cost<C: Clock>(clock: &mut C) -> u32 {
    clock.restart();
    let start = clock.now();
    let end = clock.now();
    clock.between(start, end)
}

/// Reports count and stack of every operator. The clock is read immediately before and after the operator; painting and
/// reporting are not counted.
pub(crate) struct Profiler<'l, S, C, K> {
    pub(crate) link: &'l mut Link<S>,
    pub(crate) clock: &'l mut C,
    pub(crate) gauge: &'l mut K,
    pub(crate) reading_cost: u32,
    pub(crate) depth: u32,
    pub(crate) start: u32,
}

impl<S: Read + Write, C: Clock, K: StackGauge> Observer for Profiler<'_, S, C, K> {
    #[inline(always)]
    fn before(&mut self, _operator: OpInfo) {
        self.depth = self.gauge.paint();
        self.clock.restart();
        self.start = self.clock.now();
    }

    #[inline(always)]
    fn after(&mut self, operator: OpInfo, _output: &[u8]) {
        let end = self.clock.now();
        let stack = self.gauge.deepest().saturating_sub(self.depth);
        let count = self.clock.between(self.start, end).saturating_sub(self.reading_cost);
        self.link.send(&Response::Operator(OperatorMeasurement { count, stack, ..report(operator) }));
    }
}

/// Reports the CRC-32 of every operator's output.
pub(crate) struct Digester<'l, S> {
    pub(crate) link: &'l mut Link<S>,
}

impl<S: Read + Write> Observer for Digester<'_, S> {
    fn after(&mut self, operator: OpInfo, output: &[u8]) {
        self.link
            .send(&Response::Operator(OperatorMeasurement { digest: crc32(output), ..report(operator) }));
    }
}

fn report(operator: OpInfo) -> OperatorMeasurement {
    let OpInfo { index, tag, origin } = operator;
    OperatorMeasurement { index, tag: number(tag), origin, count: 0, stack: 0, digest: 0 }
}

fn number(tag: Tag) -> u8 {
    tag as u8
}
