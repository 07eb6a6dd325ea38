//! How long a wave takes for the loop that its products are in, by the code that a compiler for AMD cards has made.
//!
//! One wave of 64 invocations runs alone, in order. The latencies are those that Mesa's own estimate takes (20 cycles for
//! workgroup memory, 320 for others, 5 for arithmetic), widths those of an RDNA 2 processor: 32 lanes of arithmetic, 128
//! bytes a cycle from workgroup memory, 64 from the first cache. Branches forward are taken
//! where they skip scalar work alone that few turns need; a barrier costs what its waits do. A model, to compare one kernel with another by.

use std::collections::HashMap;

/// Lanes of a wave.
const LANES: u64 = 64;
/// Turns that are followed; those of the second half count.
const TURNS: usize = 16;
/// What instructions that multiply and add are called.
const PRODUCT: &str = "v_fma";

/// An instruction: its name, and its operands.
#[derive(Clone, Debug, PartialEq)]
struct Instruction<'a> {
    name: &'a str,
    operands: Vec<&'a str>,
}

/// The code of a kernel, with where its labels are.
#[derive(Default)]
struct Code<'a> {
    instructions: Vec<Instruction<'a>>,
    labels: HashMap<&'a str, usize>,
}

impl<'a> Code<'a> {
    fn new(assembly: &'a str) -> Self {
        let mut code = Self::default();
        for line in assembly.lines() {
            let line = line.split(';').next().unwrap_or_default().trim();
            if let Some(label) = line.strip_suffix(':') {
                code.labels.insert(label, code.instructions.len());
            } else if let Some(name) = line.split_whitespace().next() {
                let operands = line[name.len()..].split([',', ' ']).filter(|word| !word.is_empty());
                code.instructions.push(Instruction { name, operands: operands.collect() });
            }
        }
        code
    }

    /// Where an instruction branches to.
    fn target(&self, at: usize) -> Option<usize> {
        let instruction = &self.instructions[at];
        let is_branch =
            instruction.name.starts_with("s_branch") || instruction.name.starts_with("s_cbranch");
        is_branch.then(|| self.labels[instruction.operands[0]])
    }

    /// The loops: where each begins, and its last branch back.
    fn loops(&self) -> Vec<(usize, usize)> {
        let back = |at| self.target(at).filter(|&to| to <= at).map(|to| (to, at));
        let mut loops: Vec<(usize, usize)> = Vec::new();
        for (from, to) in (0..self.instructions.len()).filter_map(back) {
            loops.retain(|&(other, _)| other != from);
            loops.push((from, to));
        }
        loops
    }

    /// Whether most turns take a branch forward.
    fn skips(&self, at: usize, target: usize) -> bool {
        let name = self.instructions[at].name;
        let has = |name| self.count((at + 1, target - 1), name) > 0;
        name == "s_branch" || name.contains("_scc") && !(has(PRODUCT) || has("ds_") || has("buffer_load"))
    }

    /// How many instructions of a loop have a name that begins like this.
    fn count(&self, (from, to): (usize, usize), name: &str) -> usize {
        self.instructions[from..=to].iter().filter(|i| i.name.starts_with(name)).count()
    }
}

/// What a loop takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InnerLoop {
    /// Instructions that multiply and add, of a wave, in a turn.
    pub products: f64,
    /// Cycles of a turn.
    pub cycles: f64,
}

impl InnerLoop {
    /// Cycles of a wave for each of its multiplications with addition; arithmetic alone takes 2.
    pub fn cycles_a_product(self) -> f64 {
        self.cycles / self.products
    }
}

/// The first innermost loop that loads from memory and has 16 products or more, if there is one. Loops in it are taken
/// `turns` times.
pub fn inner_loop(assembly: &str, turns: u32) -> Option<InnerLoop> {
    let code = Code::new(assembly);
    let is_it = |&range: &(usize, usize)| {
        code.count(range, PRODUCT) >= 16
            && ["buffer_load", "global_load"].iter().any(|load| code.count(range, load) > 0)
    };
    let candidates: Vec<_> = code.loops().into_iter().filter(is_it).collect();
    let is_innermost = |&(from, to): &(usize, usize)| {
        !candidates.iter().any(|&(a, b)| (from < a && b <= to) || (from == a && b < to))
    };
    let (from, to) = candidates.iter().copied().filter(is_innermost).min()?;
    let mut wave = Wave::default();
    let mut ends = Vec::new();
    for _ in 0..TURNS {
        let mut at = from;
        let mut taken = HashMap::new();
        while at <= to {
            wave.run(&code.instructions[at]);
            let is_jump = |&target: &usize| match target <= at {
                true if at < to => {
                    let count = taken.entry(at).or_insert(1);
                    *count += 1;
                    *count <= turns
                }
                true => false,
                false => code.skips(at, target) && target <= to,
            };
            at = code.target(at).filter(is_jump).unwrap_or(at + 1);
        }
        ends.push((wave.now, wave.products));
    }
    let (first, last) = (ends[TURNS / 2 - 1], ends[TURNS - 1]);
    let a_turn = |count: u64| count as f64 / (TURNS - TURNS / 2) as f64;
    Some(InnerLoop { products: a_turn(last.1 - first.1), cycles: a_turn(last.0 - first.0) })
}

/// A wave under way: cycles from its start.
#[derive(Default)]
struct Wave {
    now: u64,
    products: u64,
    /// When each register of its invocations is ready.
    ready: HashMap<u32, u64>,
    /// When what was asked of memory comes, in order; and of workgroup memory and constants.
    memory: Vec<u64>,
    shared: Vec<u64>,
    /// When the cache, and workgroup memory, take the next request.
    cache_free: u64,
    shared_free: u64,
}

impl Wave {
    fn run(&mut self, instruction: &Instruction) {
        let Instruction { name, operands } = instruction;
        if *name == "s_waitcnt" {
            // "vmcnt(0)", or "lgkmcnt(3)".
            for word in operands {
                let count = |of: &str| word.strip_prefix(of)?.strip_suffix(')')?.parse::<usize>().ok();
                if let Some(left) = count("vmcnt(") {
                    wait(&mut self.now, &mut self.memory, left);
                }
                if let Some(left) = count("lgkmcnt(") {
                    wait(&mut self.now, &mut self.shared, left);
                }
            }
            return;
        }
        let registers = || operands.iter().flat_map(|operand| vector_registers(operand));
        let ready = registers().filter_map(|register| self.ready.get(&register)).max();
        if let Some(&ready) = ready {
            self.now = self.now.max(ready);
        }
        let bytes = LANES * width(name);
        if name.starts_with("v_") {
            let is_slow = ["rcp", "exp", "log", "sqrt", "rsq", "mul_lo_u32", "mul_hi"];
            let passes = if is_slow.iter().any(|slow| name.contains(slow)) { 8 } else { 2 };
            self.now += passes;
            self.products += u64::from(name.starts_with(PRODUCT));
            for register in operands.first().into_iter().flat_map(|operand| vector_registers(operand)) {
                self.ready.insert(register, self.now + 5 - 1);
            }
        } else if name.starts_with("ds_") {
            self.shared_free = self.shared_free.max(self.now) + bytes / 128;
            self.shared.push(self.shared_free + 20);
            self.now += 1;
        } else if name.starts_with("buffer_load") || name.starts_with("global_load") {
            self.cache_free = self.cache_free.max(self.now) + bytes / 64;
            self.memory.push(self.cache_free + 320);
            self.now += 1;
        } else if name.starts_with("s_load") || name.starts_with("s_buffer_load") {
            self.shared.push(self.now + 30);
            self.now += 1;
        } else {
            self.now += 1;
        }
    }
}

/// Waits until no more than `left` requests are under way.
fn wait(now: &mut u64, requests: &mut Vec<u64>, left: usize) {
    let done = requests.len().saturating_sub(left);
    *now = requests.drain(..done).fold(*now, u64::max);
}

/// Bytes of a lane that an instruction moves, by the end of its name.
fn width(name: &str) -> u64 {
    match name {
        _ if name.contains("x4") || name.contains("b128") => 16,
        _ if name.contains("x2") || name.contains("b64") => 8,
        _ => 4,
    }
}

/// The registers that an operand names: "v7", or "v[8:11]".
fn vector_registers(operand: &str) -> std::ops::RangeInclusive<u32> {
    #[expect(clippy::reversed_empty_ranges, reason = "no register")]
    let none = 1..=0;
    let Some(rest) = operand.strip_prefix('v') else { return none };
    if let Some((first, last)) = rest.strip_prefix('[').and_then(|r| r.strip_suffix(']')?.split_once(':')) {
        return first.parse().unwrap()..=last.parse().unwrap();
    }
    rest.parse().map_or(none, |register| register..=register)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop of so many products, with something before them in each turn, beside a load that nobody waits for.
    fn kernel(before: &str, products: u32) -> String {
        let products: String =
            (0..products).map(|i| format!("\tv_fmac_f32_e32 v{i}, v90, v91\n")).collect();
        let load = "\tbuffer_load_dword v99, v98, s[0:3], 0 offen\n";
        let branch = "\ts_cbranch_scc1 BB1 ; bf85\n";
        format!("BB0:\n\ts_nop 0\nBB1:\n{load}{before}\n{products}{branch}BB2:\n\ts_endpgm\n")
    }

    fn of(assembly: &str) -> InnerLoop {
        inner_loop(assembly, 1).unwrap()
    }

    #[test]
    fn arithmetic_alone_takes_two_cycles() {
        assert_eq!(of(&kernel("", 64)), InnerLoop { products: 64.0, cycles: 130.0 });
        assert_eq!(inner_loop(&kernel("", 15), 1), None);
        // Each waits for the one before it.
        let chain = kernel("", 64).replace("v_fmac_f32_e32 v", "v_fmac_f32_e32 v77, v77, v");
        assert!(of(&chain).cycles > 300.0);
    }

    /// What is waited for counts; what was asked for long before does not.
    #[test]
    fn waiting_for_memory_counts() {
        let load = "\tbuffer_load_dwordx4 v[92:95], v96, s[0:3], 0 offen\n";
        let at_once = of(&kernel(&format!("{load}\ts_waitcnt vmcnt(0)"), 256));
        let ahead = of(&kernel(&format!("\ts_waitcnt vmcnt(1)\n{load}"), 256));
        assert!(at_once.cycles > ahead.cycles + 300.0, "{at_once:?} {ahead:?}");
        assert!(ahead.cycles_a_product() < 2.1);
        // 128 bytes a cycle.
        let reads = "\tds_read_b128 v[92:95], v96\n".repeat(100) + "\ts_waitcnt lgkmcnt(0)";
        assert!(of(&kernel(&reads, 16)).cycles > 800.0);
    }

    /// Loops within it are taken as often as is said; one around it does not count.
    #[test]
    fn loops_within_count_by_their_turns() {
        let within = "BB7:\n\tv_fmac_f32_e32 v80, v81, v82\n\ts_cbranch_scc1 BB7\n";
        let whole = format!("BB5:\n{}\ts_branch BB5\n", kernel(within, 32).replace("\ts_endpgm\n", ""));
        let products = [1, 4].map(|turns| inner_loop(&whole, turns).unwrap().products);
        assert_eq!(products, [33.0, 36.0]);
    }
}
