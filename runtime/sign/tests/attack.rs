//! Tries to get something accepted that was not released or not asked for: changed files, downgrades, wrong keys; replays, changes and
//! forgeries of commands. Every run makes 2,000; 10⁶ are made by
//!
//! `cargo test --release -p offshoot-sign --test attack -- --ignored --nocapture`

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use offshoot_sign::{
    ENVELOPE_LEN, Metadata, NotAuthorised, PublicKey, Refusal, Session, Trust, command_bytes, envelope,
    verify,
};

/// Numbers from a seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

/// How many tries ended how.
#[derive(Default)]
struct Tally {
    refused: BTreeMap<String, u64>,
    accepted: u64,
}

impl Tally {
    fn count<T, E: std::fmt::Debug>(&mut self, result: Result<T, E>) {
        match result {
            Ok(_) => self.accepted += 1,
            Err(refusal) => *self.refused.entry(format!("{refusal:?}")).or_default() += 1,
        }
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes()).unwrap()
}

/// A file signed by one key, in the name of another.
fn signed(by: &SigningKey, named: &SigningKey, release: u32, target: &str, network: &[u8]) -> Vec<u8> {
    let metadata = Metadata { key: public(named).id(), release, runtime: [0, 1, 0], name: "m", target };
    let mut front = envelope::unsigned(&metadata, network).unwrap();
    let message = [envelope::signed_part(&front), network].concat();
    envelope::put_signature(&mut front, &by.sign(&message).to_bytes());
    [&front[..], network].concat()
}

/// `count` files.
fn files(seed: u64, count: u64) -> Tally {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (maker, next, thief) = (key(1), key(3), key(2));
    // Long enough for offsets of a real file, short enough for many tries.
    let network: Vec<u8> = b"OFFS".iter().copied().chain((0..1500).map(|i| ((i * 37) >> 2) as u8)).collect();
    let keys = [public(&maker), public(&next)];
    let trust = Trust { keys: &keys, name: Some("m"), target: "board", release: 10 };
    let good = signed(&maker, &maker, 10, "board", &network);
    assert!(verify(&good, &trust).is_ok());
    let mut tally = Tally::default();
    while tally.accepted + tally.refused.values().sum::<u64>() < count {
        let mut file = good.clone();
        match numbers.below(16) {
            // Downgrades and other targets, signed by the maker or by the next key.
            0 => file = signed(&maker, &maker, numbers.below(10) as u32, "board", &network),
            1 => file = signed(&next, &next, 10, ["boar", "board2", "x"][numbers.below(3)], &network),
            // A stranger, under its own name and under the maker's; a trusted key in the name of the other.
            2 => file = signed(&thief, &thief, 10, "board", &network),
            3 => file = signed(&thief, &maker, 10, "board", &network),
            4 => file = signed(&next, &maker, 10, "board", &network),
            // The maker's signature of other metadata.
            5 => file = [&signed(&maker, &maker, 4, "board", &network)[..80], &good[80..]].concat(),
            // Random signatures with S below the order.
            6 => {
                file[16..80].fill_with(|| numbers.below(256) as u8);
                file[79] &= 0x0f;
            }
            7..11 => {
                for _ in 0..=numbers.below(4) {
                    let at = numbers.below(file.len());
                    file[at] ^= 1 << numbers.below(8);
                }
            }
            // In the envelope, where every byte has a meaning.
            11 | 12 => {
                let at = numbers.below(ENVELOPE_LEN);
                file[at] = file[at].wrapping_add(1 + numbers.below(255) as u8);
            }
            13 => file.truncate(numbers.below(good.len())),
            14 => file.extend(vec![0; 1 + numbers.below(64)]),
            _ => {
                let (a, b) = (numbers.below(file.len()), numbers.below(file.len()));
                file.swap(a, b);
            }
        }
        // Two changes may cancel each other, and two equal bytes change places.
        if file != good {
            tally.count(verify(&file, &trust));
        }
    }
    tally
}

/// `count` commands that an attacker on the line sends.
fn commands(seed: u64, count: u64) -> Tally {
    let mut numbers = Numbers(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
    let (host, thief) = (key(4), key(2));
    let hosts = [public(&host)];
    let sign = |by: &SigningKey, nonce: &[u8; 32], counter, command: &[u8]| {
        by.sign(&command_bytes(nonce, counter, command)).to_bytes()
    };
    let nonce = |numbers: &mut Numbers| [(); 32].map(|()| numbers.below(256) as u8);
    let mut session = Session::new(nonce(&mut numbers));
    // What was heard on the line: nonce, counter, command, signature.
    let mut heard = vec![];
    let mut tally = Tally::default();
    for turn in 0..count {
        // The host is at work, too: its commands count, and become replays.
        if turn % 64 == 0 {
            if turn % 512 == 0 {
                session = Session::new(nonce(&mut numbers));
            }
            let command = [7, numbers.below(256) as u8, 13];
            let (at, counter) = (*session.nonce(), session.next());
            let signature = sign(&host, &at, counter, &command);
            assert_eq!(session.take(&hosts, counter, &command, &signature), Ok(()));
            heard.push((at, counter, command, signature));
        }
        let (_, mut counter, mut command, mut signature) = heard[numbers.below(heard.len())];
        let expected = session.next();
        match numbers.below(6) {
            // As it was.
            0 => {}
            // With the counter that the device waits for.
            1 => counter = expected,
            // Another command under an old signature.
            2 => {
                counter = expected;
                command[numbers.below(3)] ^= 1 << numbers.below(8);
            }
            3 => {
                counter = expected;
                signature[numbers.below(64)] ^= 1 << numbers.below(8);
            }
            // A stranger.
            4 => {
                counter = expected;
                signature = sign(&thief, session.nonce(), counter, &command);
            }
            // The host's signature for another session.
            _ => {
                counter = expected;
                signature = sign(&host, &nonce(&mut numbers), counter, &command);
            }
        }
        tally.count(session.take(&hosts, counter, &command, &signature).map_err(|why| match why {
            NotAuthorised::Counter { .. } => "Counter",
            NotAuthorised::Signature => "Signature",
        }));
    }
    tally
}

/// Most tries of a round. Each round has seeds of its own, and says how far it came.
const ROUND: u64 = 10_000;

fn attacked(count: u64) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let rounds = count.div_ceil(ROUND);
    let share = count.div_ceil(rounds * threads);
    let mut all = Tally::default();
    for round in 0..rounds {
        std::thread::scope(|scope| {
            let seeds = (0..threads).map(|thread| round * threads + thread + 1);
            let attack = |seed| [files(seed, share * 7 / 10), commands(seed, share - share * 7 / 10)];
            let runs: Vec<_> = seeds.map(|seed| scope.spawn(move || attack(seed))).collect();
            for tally in runs.into_iter().flat_map(|run| run.join().unwrap()) {
                all.accepted += tally.accepted;
                tally.refused.into_iter().for_each(|(why, n)| *all.refused.entry(why).or_default() += n);
            }
        });
        println!("{} tries, {} accepted, {:?}", (round + 1) * share * threads, all.accepted, all.refused);
        assert_eq!(all.accepted, 0);
    }
    use Refusal::{Key, Length, Release, Signature, Target};
    let refusals = [Key, Length, Release, Signature, Target].map(|refusal| format!("{refusal:?}"));
    for why in refusals.iter().map(String::as_str).chain(["\"Counter\"", "\"Signature\""]) {
        assert!(all.refused.contains_key(why), "no try ended in {why}");
    }
}

#[test]
fn nothing_else_is_accepted() {
    attacked(2_000);
}

#[test]
#[ignore = "10⁶ tries take 25 minutes of a core"]
fn nothing_else_is_accepted_in_a_million_tries() {
    attacked(1_000_000);
}
