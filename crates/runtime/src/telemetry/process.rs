//! What the operating system knows about this process, read when somebody asks. Linux only; elsewhere it is left out.

use std::fmt::Write;
use std::fs;

/// Linux counts processor time for programs in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn render(text: &mut String, service: &str) {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("MANIFOLD_COMMIT").unwrap_or("unknown");
    let labels = format!(r#"service="{service}",version="{version}",commit="{commit}""#);
    put(text, "manifold_build_info", "gauge", &labels, 1.0);
    let labels = format!(r#"service="{service}""#);
    for (name, kind, value) in [
        ("process_resident_memory_bytes", "gauge", resident_memory()),
        ("process_open_fds", "gauge", open_files()),
        ("process_cpu_seconds_total", "counter", processor_time()),
    ] {
        if let Some(value) = value {
            put(text, name, kind, &labels, value);
        }
    }
}

fn put(text: &mut String, name: &str, kind: &str, labels: &str, value: f64) {
    // A String takes everything.
    let _ = writeln!(text, "# TYPE {name} {kind}\n{name}{{{labels}}} {value}\n");
}

fn resident_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024.0)
}

fn open_files() -> Option<f64> {
    // One of them is the folder that is being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0).max(0.0))
}

fn processor_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}
