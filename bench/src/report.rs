//! Medians, ratios, tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use clauderon_bench::job::{Measured, Mode};
use clauderon_bench::stats::median;
use serde::Serialize;

/// One load run.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// What the load generator saw.
    pub measured: Measured,
    /// CPU the proxy used.
    pub cpu_seconds: f64,
    /// What its memory grew by.
    pub rss_kib: u64,
}

/// All samples of a run.
#[derive(Debug, Serialize)]
pub struct Results {
    peers: Vec<String>,
    modes: Vec<Mode>,
    /// By mode's name, then peer.
    samples: BTreeMap<&'static str, BTreeMap<String, Vec<Sample>>>,
    start_rss_kib: BTreeMap<String, Vec<f64>>,
    end_rss_kib: BTreeMap<String, Vec<f64>>,
}

/// A number of one peer in one mode.
type Metric = fn(&Sample, Mode) -> f64;

impl Results {
    /// No samples yet.
    pub fn new(peers: &[String], modes: &[Mode]) -> Self {
        Self {
            peers: peers.to_vec(),
            modes: modes.to_vec(),
            samples: BTreeMap::new(),
            start_rss_kib: BTreeMap::new(),
            end_rss_kib: BTreeMap::new(),
        }
    }

    /// Adds one load run.
    pub fn add(&mut self, peer: &str, mode: Mode, sample: Sample) {
        self.samples.entry(mode.name()).or_default().entry(peer.into()).or_default().push(sample);
    }

    /// Adds a fresh process's memory.
    pub fn start_rss(&mut self, peer: &str, kib: u64) {
        self.start_rss_kib.entry(peer.into()).or_default().push(kib as f64);
    }

    /// Adds a process's memory after all modes.
    pub fn end_rss(&mut self, peer: &str, kib: u64) {
        self.end_rss_kib.entry(peer.into()).or_default().push(kib as f64);
    }

    /// Prints the tables and writes them and every sample to `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = self.markdown();
        fs::create_dir_all(dir)?;
        fs::write(dir.join("results.md"), &text)?;
        fs::write(dir.join("results.json"), serde_json::to_string_pretty(self)?)?;
        print!("{text}");
        eprintln!("written to {}", dir.display());
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", machine());
        text += "CPU ms per 1000 requests (down and up: CPU seconds per GB; sse: ms per 1000 events)\n\n";
        text += &self.table(cpu, is_load);
        text += "\nRequests per second (down and up: MB/s)\n\n";
        text += &self.table(rate, |mode| is_load(mode) && mode != Mode::Sse);
        text += "\nLatency p50 / p99, microseconds (sse: from the origin's write to the client's read)\n\n";
        text += &self.cells(is_load, |of| format!("{:.0} / {:.0}", of(p50), of(p99)));
        text += "\nMemory\n\n";
        text += &self.memory();
        text += "\nGoals\n\n";
        text + &self.goals()
    }

    fn table(&self, metric: Metric, wanted: fn(Mode) -> bool) -> String {
        self.cells(wanted, |of| rounded(of(metric)))
    }

    fn cells(&self, wanted: fn(Mode) -> bool, cell: impl Fn(&dyn Fn(Metric) -> f64) -> String) -> String {
        let modes: Vec<Mode> = self.modes.iter().copied().filter(|mode| wanted(*mode)).collect();
        let mut text = row("proxy", modes.iter().map(|mode| mode.name().to_owned()));
        text += &row("---", modes.iter().map(|_| "---".to_owned()));
        for peer in &self.peers {
            text += &row(
                peer,
                modes.iter().map(|mode| match self.samples_of(peer, *mode) {
                    [] => "-".to_owned(),
                    _ => cell(&|metric| self.median(peer, *mode, metric)),
                }),
            );
        }
        text
    }

    fn memory(&self) -> String {
        let mut text = row("proxy", ["start RSS MiB", "per idle tunnel KiB", "RSS after all MiB"].map(str::to_owned));
        text += &row("---", ["---", "---", "---"].map(str::to_owned));
        for peer in self.peers.iter().filter(|peer| *peer != "direct") {
            let start = median(self.start_rss_kib.get(peer).map_or(&[], Vec::as_slice)) / 1024.0;
            let end = median(self.end_rss_kib.get(peer).map_or(&[], Vec::as_slice)) / 1024.0;
            let idle = self.median(peer, Mode::Idle, per_tunnel);
            text += &row(peer, [start, idle, end].map(rounded));
        }
        text
    }

    fn goals(&self) -> String {
        let mut text = row("goal", ["limit", "measured", ""].map(str::to_owned));
        text += &row("---", ["---", "---", "---"].map(str::to_owned));
        for (name, limit, measured) in self.goal_values() {
            if measured.is_finite() && measured > 0.0 {
                let verdict = if measured <= limit { "met" } else { "**missed**" };
                text += &row(name, [format!("{limit}"), format!("{measured:.2}"), verdict.to_owned()]);
            }
        }
        text
    }

    fn goal_values(&self) -> Vec<(&'static str, f64, f64)> {
        let ratio = |mode, peer| self.median(OURS, mode, cpu) / self.median(peer, mode, cpu);
        let start = median(self.start_rss_kib.get(OURS).map_or(&[], Vec::as_slice)) / 1024.0;
        vec![
            ("warm-h1 CPU to tuned hudsucker", 1.0, ratio(Mode::WarmH1, "hudsucker")),
            ("warm-h1 CPU to haproxy", 0.75, ratio(Mode::WarmH1, "haproxy")),
            ("warm-h2 CPU to tuned hudsucker", 0.65, ratio(Mode::WarmH2, "hudsucker")),
            ("cold CPU to tuned hudsucker", 1.1, ratio(Mode::Cold, "hudsucker")),
            ("cold CPU to haproxy", 0.6, ratio(Mode::Cold, "haproxy")),
            ("cold-resume CPU to haproxy", 0.5, ratio(Mode::ColdResume, "haproxy")),
            ("cold-hosts CPU to tuned hudsucker", 1.0, ratio(Mode::ColdHosts, "hudsucker")),
            ("down CPU to haproxy", 0.65, ratio(Mode::Down, "haproxy")),
            ("up CPU to haproxy", 0.7, ratio(Mode::Up, "haproxy")),
            ("plain CPU to haproxy", 0.8, ratio(Mode::Plain, "haproxy")),
            ("audit's share of warm-h1 CPU", 1.05, ratio(Mode::WarmH1, "clauderon-noaudit")),
            ("sse slowest first event, ms", 40.0, self.median(OURS, Mode::Sse, first_event)),
            ("idle tunnel, KiB", 44.0, self.median(OURS, Mode::Idle, per_tunnel)),
            ("start RSS, MiB", 16.0, start),
        ]
    }

    fn median(&self, peer: &str, mode: Mode, metric: Metric) -> f64 {
        let values: Vec<f64> = self.samples_of(peer, mode).iter().map(|sample| metric(sample, mode)).collect();
        median(&values)
    }

    fn samples_of(&self, peer: &str, mode: Mode) -> &[Sample] {
        self.samples.get(mode.name()).and_then(|by_peer| by_peer.get(peer)).map_or(&[], Vec::as_slice)
    }
}

fn cpu(sample: &Sample, _: Mode) -> f64 {
    match sample.measured.bytes {
        0 => sample.cpu_seconds * 1e6 / sample.measured.requests as f64,
        bytes => sample.cpu_seconds * 1e9 / bytes as f64,
    }
}

fn rate(sample: &Sample, _: Mode) -> f64 {
    match sample.measured.bytes {
        0 => sample.measured.requests as f64 / sample.measured.seconds,
        bytes => bytes as f64 / 1e6 / sample.measured.seconds,
    }
}

fn p50(sample: &Sample, _: Mode) -> f64 {
    sample.measured.p50_us as f64
}

fn p99(sample: &Sample, _: Mode) -> f64 {
    sample.measured.p99_us as f64
}

fn first_event(sample: &Sample, _: Mode) -> f64 {
    sample.measured.first_event_us as f64 / 1000.0
}

fn per_tunnel(sample: &Sample, _: Mode) -> f64 {
    sample.rss_kib as f64 / sample.measured.requests as f64
}

fn is_load(mode: Mode) -> bool {
    mode != Mode::Idle
}

fn row(head: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {head} | {} |\n", cells.join(" | "))
}

fn rounded(value: f64) -> String {
    match value {
        v if v.abs() >= 100.0 => format!("{v:.0}"),
        v if v.abs() >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// What the numbers were taken on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    format!("{cores} cores, {}, all traffic on loopback; medians", model.trim_start_matches([' ', '\t', ':']))
}

const OURS: &str = "clauderon";
