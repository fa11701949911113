//! Nested sub-networks of one super-network, each beside the same architecture trained alone.

use offshoot_data::Random;
use offshoot_search::automatic::Elasticity;
use offshoot_search::training::inherited;
use offshoot_train::accuracy;

use crate::Result;
use crate::task::Task;

/// Sub-networks on the ladder.
const RUNGS: usize = 24;
/// Those trained alone.
const ALONE: usize = 5;

pub(crate) fn run(task: &Task) -> Result<()> {
    // Widths alone: blocks that can be skipped tie the widths around them, and leave few sub-networks within each other.
    let mut file = task.space.clone();
    file.elastic = Some(Elasticity { width: file.elasticity().width, ..Elasticity::default() });
    let elastic = task.trained("nested", &file)?;
    let space = &elastic.space;
    // From the smallest to the largest, one variable a step in an order by chance: each is part of the next.
    let (mut e, largest) = (space.smallest(), space.largest());
    let mut ladder = vec![e.clone()];
    let mut random = Random::new(11, 0);
    loop {
        let open: Vec<usize> = (0..e.len()).filter(|&i| e[i] < largest[i]).collect();
        if open.is_empty() {
            break;
        }
        e[open[random.below(open.len())]] += 1;
        if space.canonical(e.clone()) == e {
            ladder.push(e.clone());
        }
    }
    ladder.dedup();
    let chosen: Vec<Vec<u16>> = (0..RUNGS.min(ladder.len()))
        .map(|i| ladder[i * (ladder.len() - 1) / (RUNGS.min(ladder.len()) - 1).max(1)].clone())
        .collect();
    println!("{} nested sub-networks: parameters, float accuracy on the test set", chosen.len());
    let mut scores = Vec::new();
    for e in &chosen {
        let graph = inherited(&elastic, e, &task.train.head(192).x, 64)?;
        let weights: usize = graph.values.iter().filter(|v| v.data.is_some()).map(|v| v.len()).sum();
        let score = accuracy(&graph, &task.test.x, &task.test.y)?;
        println!("  {weights:>7} {:.2} %", 100.0 * score);
        scores.push(score);
    }
    for i in 0..ALONE {
        let at = i * (chosen.len() - 1) / (ALONE - 1);
        let fresh = file.elastic(std::path::Path::new("."))?;
        let name = format!("alone-{at}");
        let trained = task.alone(&name, &fresh.cut(&chosen[at])?, task.space.training.epochs)?;
        let alone = accuracy(&trained, &task.test.x, &task.test.y)?;
        println!(
            "  rung {at}: of the super-network {:.2} %, alone {:.2} %: {:.1} % of it",
            100.0 * scores[at],
            100.0 * alone,
            100.0 * scores[at] / alone
        );
    }
    Ok(())
}
