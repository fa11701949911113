//! Random problems against an independent checker and, when tiny, against brute force.

use offshoot_plan::lifetime::Lifetimes;
use offshoot_plan::{
    Branch, Buffer, BufferId, InPlace, Overlap, Plan, PlanOptions, Problem, Step, offsets, plan,
};
use proptest::prelude::*;

/// A random problem: step `i` writes buffer `inputs + i` from one or two earlier ones.
fn problems(max_steps: usize, max_bytes: u32) -> impl Strategy<Value = Problem> {
    let distance = prop_oneof![3 => 0..=max_bytes, 1 => Just(u32::MAX)];
    let lag = prop::option::of((distance.clone(), distance));
    let step =
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>(), any::<bool>(), lag);
    let steps = prop::collection::vec(step, 1..=max_steps);
    (1usize..3, steps, prop::collection::vec((0..=max_bytes, 0u32..3), max_steps + 2)).prop_map(
        |(inputs, picks, sizes)| {
            let mut steps = Vec::new();
            for (i, (a, b, two, in_place, lag)) in picks.iter().enumerate() {
                let write = BufferId(inputs + i);
                let mut reads = vec![BufferId(a.index(inputs + i))];
                let second = BufferId(b.index(inputs + i));
                if *two && second != reads[0] {
                    reads.push(second);
                }
                // Of two operands a shifted write may lie over one only: it does not see how far the other is.
                let overlap = match lag {
                    Some((below, above)) if reads.len() == 1 => {
                        Overlap::Offset { below: *below, above: *above }
                    }
                    _ => Overlap::Exact,
                };
                let pair = |&read| InPlace { read, write, overlap };
                let in_place = if *in_place { reads.iter().map(pair).collect() } else { vec![] };
                steps.push(Step { reads, writes: vec![write], in_place, ..Step::default() });
            }
            let count = inputs + steps.len();
            let buffers = sizes[..count].iter().map(|&(bytes, a)| Buffer { bytes, align: 1 << a }).collect();
            let inputs = (0..inputs).map(BufferId).collect();
            Problem { buffers, steps, inputs, outputs: vec![BufferId(count - 1)] }
        },
    )
}

/// Replays the plan and finds bytes that two buffers hold at once.
fn check(problem: &Problem, plan: &Plan) -> Result<(), TestCaseError> {
    let mut sorted = plan.order.clone();
    sorted.sort_unstable();
    prop_assert_eq!(sorted, (0..problem.steps.len()).collect::<Vec<_>>());
    let arena = plan.arena_bytes as usize;
    let range = |b: BufferId| {
        let start = plan.offsets[b.0] as usize;
        start..start + problem.buffers[b.0].bytes as usize
    };
    // Each byte of the arena names the buffer that last wrote it; a reader must find its own name.
    let mut memory: Vec<Option<BufferId>> = vec![None; arena];
    let write = |memory: &mut Vec<Option<BufferId>>, b: BufferId| {
        prop_assert_eq!(plan.offsets[b.0] % problem.buffers[b.0].align, 0);
        prop_assert!(range(b).end <= arena);
        memory[range(b)].fill(Some(b));
        Ok(())
    };
    for &b in &problem.inputs {
        write(&mut memory, b)?;
    }
    for &s in &plan.order {
        let step = &problem.steps[s];
        for &r in &step.reads {
            prop_assert!(memory[range(r)].iter().all(|&m| m == Some(r)), "step {s} reads a damaged {r:?}");
        }
        for &w in &step.writes {
            for &r in &step.reads {
                let (a, b) = (range(r), range(w));
                let apart = a.end <= b.start || b.end <= a.start;
                let allowed = |p: &&InPlace| match p.overlap {
                    Overlap::Exact => a.start == b.start,
                    Overlap::Offset { below, above } => {
                        a.start >= b.start + below as usize
                            || b.start >= a.start.saturating_add(above as usize)
                    }
                    _ => false,
                };
                let declared =
                    step.in_place.iter().filter(|p| p.read == r && p.write == w).any(|p| allowed(&p));
                prop_assert!(apart || declared, "step {s}: {w:?} lies over {r:?}");
            }
            write(&mut memory, w)?;
        }
    }
    for &o in &problem.outputs {
        prop_assert!(memory[range(o)].iter().all(|&m| m == Some(o)), "output {o:?} is damaged");
    }
    prop_assert!(plan.arena_bytes >= plan.lower_bound);
    Ok(())
}

/// The smallest arena of all layouts, by trying every offset below `limit`.
fn brute_force(problem: &Problem, life: &Lifetimes, limit: u32) -> u32 {
    fn place(p: &Problem, life: &Lifetimes, at: &mut Vec<u32>, top: u32, best: &mut u32) {
        let i = at.len();
        if i == p.buffers.len() {
            *best = (*best).min(top);
            return;
        }
        let b = p.buffers[i];
        if life.spans[i].is_none() || b.bytes == 0 {
            at.push(0);
            place(p, life, at, top, best);
            at.pop();
            return;
        }
        for offset in (0..*best).step_by(b.align as usize) {
            if offset + b.bytes >= *best {
                break;
            }
            let clear = (0..i).all(|j| {
                let (a, b) = (BufferId(i), BufferId(j));
                p.buffers[j].bytes == 0
                    || !life.meet(a, b)
                    || life.relation(p, a, b).allows(u64::from(offset), u64::from(at[j]))
            });
            if clear {
                at.push(offset);
                place(p, life, at, top.max(offset + b.bytes), best);
                at.pop();
            }
        }
    }
    let mut best = limit + 1;
    place(problem, life, &mut Vec::new(), 0, &mut best);
    best
}

/// Least peak of all orders.
fn least_peak(problem: &Problem) -> u64 {
    fn extend(p: &Problem, before: &[Vec<usize>], order: &mut Vec<usize>, best: &mut u64) {
        if order.len() == p.steps.len() {
            let moments = Lifetimes::of(p, order).timeline(p, order);
            *best = (*best).min(moments.iter().map(|m| m.bytes).max().unwrap_or(0));
        }
        for s in 0..p.steps.len() {
            if !order.contains(&s) && before[s].iter().all(|d| order.contains(d)) {
                order.push(s);
                extend(p, before, order, best);
                order.pop();
            }
        }
    }
    let mut best = u64::MAX;
    extend(problem, &problem.dependencies(), &mut Vec::new(), &mut best);
    best
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn plans_are_valid(problem in problems(20, 300)) {
        let options = PlanOptions { offset_budget: 2000, ..PlanOptions::default() };
        check(&problem, &plan(&problem, &options).unwrap())?;
    }

    #[test]
    fn tiny_layouts_equal_brute_force(problem in problems(5, 5)) {
        let order: Vec<usize> = (0..problem.steps.len()).collect();
        let life = Lifetimes::of(&problem, &order);
        let packed = offsets::pack(&problem, &life, 0, 1_000_000).unwrap();
        prop_assert!(packed.complete);
        prop_assert_eq!(packed.arena_bytes, brute_force(&problem, &life, packed.arena_bytes));
    }

    #[test]
    fn tiny_orders_equal_brute_force(problem in problems(6, 30)) {
        let found = plan(&problem, &PlanOptions::default()).unwrap();
        prop_assert!(found.order_complete);
        prop_assert_eq!(u64::from(found.lower_bound), least_peak(&problem));
    }
}

/// MobileNet-like chain: every tensor once, the arena is the largest neighbouring pair.
#[test]
fn a_chain_is_planned_to_its_bound_at_once() {
    let sizes = [27_648u32, 18_432, 18_432, 36_864, 9_216, 18_432, 18_432, 256, 2, 2];
    let steps = (0..sizes.len() - 1).map(|i| Step {
        reads: vec![BufferId(i)],
        writes: vec![BufferId(i + 1)],
        ..Step::default()
    });
    let problem = Problem {
        buffers: sizes.map(|bytes| Buffer { bytes, align: 16 }).to_vec(),
        steps: steps.collect(),
        inputs: vec![BufferId(0)],
        outputs: vec![BufferId(sizes.len() - 1)],
    };
    let found = plan(&problem, &PlanOptions { order_budget: 0, offset_budget: 1000, reorder: true }).unwrap();
    assert_eq!((found.arena_bytes, found.lower_bound), (55_296, 55_296));
    assert!(found.optimal && found.order_complete);
}

/// ResNet block: the shortcut stays live; the add works in place.
#[test]
fn a_residual_block_adds_in_place() {
    let step = |reads: &[usize], write: usize, in_place: &[usize]| Step {
        reads: reads.iter().map(|&b| BufferId(b)).collect(),
        writes: vec![BufferId(write)],
        in_place: in_place
            .iter()
            .map(|&r| InPlace { read: BufferId(r), write: BufferId(write), overlap: Overlap::Exact })
            .collect(),
        ..Step::default()
    };
    let problem = Problem {
        buffers: [3_072, 16_384, 16_384, 16_384, 16_384].map(|bytes| Buffer { bytes, align: 16 }).to_vec(),
        steps: vec![step(&[0], 1, &[]), step(&[1], 2, &[]), step(&[2], 3, &[]), step(&[1, 3], 4, &[1, 3])],
        inputs: vec![BufferId(0)],
        outputs: vec![BufferId(4)],
    };
    let found = plan(&problem, &PlanOptions::default()).unwrap();
    assert_eq!((found.arena_bytes, found.lower_bound, found.optimal), (49_152, 49_152, true));
}

/// A network with switches, made from random numbers: a chain of steps, of which some are switches whose branches are chains of
/// their own and write the same buffer.
struct Routes {
    problem: Problem,
    numbers: Vec<u32>,
    switches: usize,
}

impl Routes {
    fn draw(&mut self, below: u32) -> u32 {
        self.numbers.pop().unwrap_or(0) % below
    }

    fn buffer(&mut self) -> BufferId {
        let bytes = self.draw(40);
        self.problem.buffers.push(Buffer { bytes, align: 1 << (bytes % 3) });
        BufferId(self.problem.buffers.len() - 1)
    }

    /// Steps that read some of `known`; the last one writes `to`, if given.
    fn chain(&mut self, known: &[BufferId], path: &[Branch], to: Option<BufferId>, depth: usize) {
        let mut known = known.to_vec();
        let count = 1 + self.draw(4) as usize;
        for i in 0..count {
            let write = to.filter(|_| i + 1 == count).unwrap_or_else(|| self.buffer());
            if depth > 0 && self.draw(2) == 0 {
                let index = known[self.draw(known.len() as u32) as usize];
                let switch = self.switches;
                self.switches += 1;
                for number in 0..2 + self.draw(2) as usize {
                    let inner = [path, &[Branch { switch, number }]].concat();
                    let (reads, branches) = (vec![index], inner.clone());
                    self.problem.steps.push(Step { reads, branches, begins: true, ..Step::default() });
                    self.chain(&known, &inner, Some(write), depth - 1);
                }
            } else {
                let mut reads: Vec<BufferId> =
                    (0..1 + self.draw(2)).map(|_| known[self.draw(known.len() as u32) as usize]).collect();
                reads.sort_unstable();
                reads.dedup();
                let overlap = match self.draw(2) {
                    0 => Overlap::Exact,
                    _ => Overlap::Offset { below: self.draw(8), above: self.draw(8) },
                };
                let in_place = vec![InPlace { read: reads[0], write, overlap }];
                self.problem.steps.push(Step {
                    reads,
                    writes: vec![write],
                    in_place,
                    branches: path.to_vec(),
                    ..Step::default()
                });
            }
            known.push(write);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_way_through_branches_finds_its_data(numbers in prop::collection::vec(any::<u32>(), 20..120)) {
        let mut routes = Routes { problem: Problem::default(), numbers, switches: 0 };
        let inputs = [routes.buffer(), routes.buffer()];
        let to = routes.buffer();
        routes.chain(&inputs, &[], Some(to), 2);
        let mut problem = routes.problem;
        problem.inputs = inputs.to_vec();
        problem.outputs = vec![to];
        let options = PlanOptions { reorder: false, offset_budget: 2000, ..PlanOptions::default() };
        let whole = plan(&problem, &options).unwrap();
        let mut linear = problem.clone();
        for step in &mut linear.steps {
            (step.branches, step.begins) = (Vec::new(), false);
        }
        let unshared = plan(&linear, &options).unwrap();
        prop_assert!(whole.lower_bound <= unshared.lower_bound);
        for choice in 0..3 {
            // The branches chosen: number `choice`, or the last there is.
            let last = |switch: usize| {
                let own = problem.steps.iter().flat_map(|s| &s.branches).filter(|b| b.switch == switch);
                own.map(|b| b.number).max().unwrap_or(0)
            };
            for turn in 0..2 {
                let taken = |b: &Branch| b.number == (choice + turn * b.switch).min(last(b.switch));
                let runs = |s: &&Step| s.runs_in().iter().all(taken);
                let way = Problem { steps: problem.steps.iter().filter(runs).cloned().collect(), ..problem.clone() };
                let order = (0..way.steps.len()).collect();
                check(&way, &Plan { order, ..whole.clone() })?;
            }
        }
    }
}
