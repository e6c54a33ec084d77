//! Kernel, limits, clocks and graphics processors.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::finding::{Finding, Level, NOTHING};

/// Longest that another program may take, seconds: a broken driver makes its tool hang.
const TOOL_S: u64 = 10;
/// Memory that a guard locks, with its stack and heap, MiB.
const LOCKED_MIB: u64 = 64;
/// Longest time that a machine slept, above which it is said, milliseconds.
const SLEPT_MS: i64 = 100;

/// What the kernel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// How it preempts, in its own words.
    pub preemption: &'static str,
    /// Whether that is `PREEMPT_RT`.
    pub real_time: bool,
    /// Cores that are kept free of everything else.
    pub isolated: String,
    /// What the clock speed follows, if it can be read.
    pub governor: Option<String>,
}

/// Reads what the kernel says of itself.
pub fn kernel() -> Kernel {
    let version = read("/proc/version").unwrap_or_default();
    let real_time = read("/sys/kernel/realtime").is_some_and(|text| text == "1");
    let preemption = preemption(&version, real_time);
    Kernel {
        preemption,
        real_time: preemption == RT,
        isolated: read("/sys/devices/system/cpu/isolated").unwrap_or_default(),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }
}

const RT: &str = "PREEMPT_RT";

/// The model of preemption that a kernel's version line names.
fn preemption(version: &str, real_time: bool) -> &'static str {
    let names = |word: &str| version.split_whitespace().any(|found| found == word);
    if real_time || names("PREEMPT_RT") {
        RT
    } else if names("PREEMPT_DYNAMIC") {
        "PREEMPT_DYNAMIC"
    } else if names("PREEMPT") {
        "PREEMPT"
    } else {
        "none that it names"
    }
}

/// Says what the machine is.
pub fn findings(kernel: &Kernel) -> Vec<Finding> {
    vec![of_kernel(kernel), limits(), clocks(), wall_clock(), gpu()]
}

fn of_kernel(kernel: &Kernel) -> Finding {
    let governor = kernel.governor.as_deref().unwrap_or("not readable");
    let isolated = if kernel.isolated.is_empty() {
        "none"
    } else {
        &kernel.isolated
    };
    let what = format!(
        "preemption {}, isolated cores {isolated}, governor {governor}",
        kernel.preemption
    );
    let found = if kernel.real_time {
        Finding::new("kernel", Level::Ok, what).means("a woken guard runs at once")
    } else {
        Finding::new("kernel", Level::Note, what)
            .means("the kernel may finish other work before it lets a woken guard run")
            .todo("nothing for simulated cells; for a real robot a PREEMPT_RT kernel (6.12 or newer has it)")
    };
    found.figures(json!({
        "preemption": kernel.preemption,
        "isolated": kernel.isolated,
        "governor": kernel.governor,
    }))
}

fn limits() -> Finding {
    let memory = getrlimit(Resource::Memlock);
    let priority = getrlimit(Resource::Rtprio);
    let mib = memory.current.map(|bytes| bytes / (1024 * 1024));
    let enough = mib.is_none_or(|mib| LOCKED_MIB <= mib);
    let shown = |limit: &Rlimit| match limit.current {
        None => "unlimited".to_owned(),
        Some(value) => value.to_string(),
    };
    let memory_text = mib.map_or_else(|| "unlimited".to_owned(), |mib| format!("{mib} MiB"));
    let what = format!(
        "{memory_text} of memory may be locked, real-time priority up to {}",
        shown(&priority)
    );
    let figures = json!({
        "memlock_bytes": memory.current,
        "rtprio": priority.current,
    });
    let found = if enough {
        Finding::new("limits", Level::Ok, what)
            .means("a guard can keep its memory from being moved out")
    } else {
        Finding::new("limits", Level::Note, what)
            .means("a guard's memory may be moved out, and it then waits for the disk; shared memory between processes needs it too")
            .todo("LimitMEMLOCK=infinity in the unit, or memlock in limits.conf")
    };
    found.figures(figures)
}

fn clocks() -> Finding {
    let now_ms = |id| {
        let time = clock_gettime(id);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    };
    let slept_ms = now_ms(ClockId::Boottime) - now_ms(ClockId::Monotonic);
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.unwrap_or_else(|| "not readable".to_owned());
    let what = format!("source {source}, asleep for {slept_ms} ms since it was switched on");
    let found = if slept_ms <= SLEPT_MS {
        Finding::new("clocks", Level::Ok, what)
            .means("the monotonic clock, which alone decides motion, has not stood still")
    } else {
        Finding::new("clocks", Level::Note, what)
            .means("this machine sleeps: the monotonic clock stands still meanwhile, and stamps look younger than they are")
            .todo("forbid suspending (systemctl mask sleep.target) before it guards a robot")
    };
    found.figures(json!({ "slept_ms": slept_ms, "source": source }))
}

fn wall_clock() -> Finding {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    let state = output_within(&mut command, TOOL_S);
    let (level, what, todo) = match state.as_deref().map(str::trim) {
        Ok("yes") => (Level::Ok, "kept by NTP".to_owned(), NOTHING),
        Ok("no") => (
            Level::Note,
            "not kept by NTP".to_owned(),
            "switch it on: timedatectl set-ntp true",
        ),
        Ok(other) => (Level::Note, format!("not known: {other:?}"), NOTHING),
        Err(error) => (Level::Note, format!("not readable: {error:#}"), NOTHING),
    };
    Finding::new("wall-clock", level, what)
        .means("decides nothing about motion; times in logs and deadlines of tasks are read by it")
        .todo(todo)
}

fn gpu() -> Finding {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=name,driver_version,memory.total,memory.used,temperature.gpu",
        "--format=csv,noheader",
    ]);
    match output_within(&mut command, TOOL_S) {
        Ok(text) => {
            let cards: Vec<&str> = text.lines().map(str::trim).collect();
            Finding::new("gpu", Level::Ok, cards.join("; "))
                .means("networks can compute there, in a build with the feature cuda")
                .todo("name it in brain.device and expert.device, such as cuda:0")
                .figures(json!({ "cards": cards }))
        }
        Err(error) => Finding::new("gpu", Level::Note, format!("none: {error:#}"))
            .means("networks compute on the processor: seconds for a large one, so that the guard waits")
            .todo("nothing for the scripted policy and for small networks"),
    }
}

/// Runs a program and gives what it printed, if it ends well within the time.
///
/// # Errors
/// A program that is not there, fails or takes too long.
pub fn output_within(command: &mut Command, seconds: u64) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("there is no {name} here"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (done, ended) = sync_channel(1);
    let reader = std::thread::Builder::new()
        .name("doctor-reader".to_owned())
        .spawn(move || {
            let text = (all_of(out), all_of(err));
            // Nobody listens any more if it took too long.
            drop(done.send(text));
        })
        .context("cannot start a thread")?;
    let Ok((text, complaint)) = ended.recv_timeout(Duration::from_secs(seconds)) else {
        child
            .kill()
            .context("it takes too long and cannot be ended")?;
        child.wait().context("it takes too long")?;
        drop(reader.join());
        anyhow::bail!("{name} took longer than {seconds} s");
    };
    let status = child.wait().context("it cannot be waited for")?;
    let first = complaint.lines().next().unwrap_or_default();
    ensure!(status.success(), "{name} failed: {first}");
    Ok(text)
}

/// Longest output of a tool that is read, bytes.
const OUTPUT_MAX: u64 = 64 * 1024;

fn all_of(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What could be read is shown.
        let _ = from.take(OUTPUT_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_preemption_is_read_from_its_version() {
        let of = |text| preemption(text, false);
        assert_eq!(of("Linux 6.12 #1 SMP PREEMPT_RT Thu"), "PREEMPT_RT");
        assert_eq!(
            of("Linux 6.18 #1 SMP PREEMPT_DYNAMIC @0"),
            "PREEMPT_DYNAMIC"
        );
        assert_eq!(of("Linux 6.1 #1 SMP PREEMPT Thu"), "PREEMPT");
        assert_eq!(of("Linux 6.1 #1 SMP Thu"), "none that it names");
        assert_eq!(
            preemption("Linux 6.1 #1 SMP PREEMPT Thu", true),
            "PREEMPT_RT"
        );
    }

    #[test]
    fn a_tool_is_read_refused_and_ended() {
        let run =
            |script: &str, seconds| output_within(Command::new("sh").args(["-c", script]), seconds);
        assert_eq!(run("echo good", 10).unwrap(), "good\n");
        let failed = run("echo bad >&2; exit 3", 10).unwrap_err().to_string();
        assert!(failed.contains("bad"), "{failed}");
        let slow = run("exec cat /dev/zero >/dev/null", 1)
            .unwrap_err()
            .to_string();
        assert!(slow.contains("longer than 1 s"), "{slow}");
        let absent = output_within(&mut Command::new("no-such-tool-of-vlad"), 1);
        assert!(absent.unwrap_err().to_string().contains("there is no"));
    }

    #[test]
    fn each_finding_says_what_it_means_and_what_to_do() {
        for found in findings(&kernel()) {
            assert!(!found.what.is_empty() && !found.means.is_empty() && !found.todo.is_empty());
        }
    }
}
