//! The data caches of the first processor of this machine: from the CPU where it tells them, else from the system.

use std::fs;

/// A data cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// Its size.
    pub bytes: usize,
    /// Its associativity, where that is known.
    pub ways: Option<usize>,
    /// Bytes of a line, where they are known.
    pub line_bytes: Option<usize>,
}

/// The first-, second- and third-level caches, as far as they are told.
pub fn of_host() -> [Option<Cache>; 3] {
    let mut caches = of_cpu();
    if caches.iter().any(Option::is_none) {
        for (cache, told) in caches.iter_mut().zip(of_system(&|path| fs::read_to_string(path).ok())) {
            *cache = cache.or(told);
        }
    }
    caches
}

#[cfg(target_arch = "x86_64")]
fn of_cpu() -> [Option<Cache>; 3] {
    let mut caches = [None; 3];
    for told in raw_cpuid::CpuId::new().get_cache_parameters().into_iter().flatten() {
        let (ways, line) = (told.associativity(), told.coherency_line_size());
        let bytes = told.sets() * ways * told.physical_line_partitions() * line;
        let is_data = matches!(told.cache_type(), raw_cpuid::CacheType::Data | raw_cpuid::CacheType::Unified);
        if let (true, 1.., level @ 1..=3) = (is_data, bytes, usize::from(told.level())) {
            caches[level - 1] = Some(Cache { bytes, ways: Some(ways), line_bytes: Some(line) });
        }
    }
    caches
}

#[cfg(not(target_arch = "x86_64"))]
fn of_cpu() -> [Option<Cache>; 3] {
    [None; 3]
}

/// What Linux tells in files, which `read` gives by their paths.
fn of_system(read: &dyn Fn(&str) -> Option<String>) -> [Option<Cache>; 3] {
    let mut caches = [None; 3];
    for index in 0..8 {
        let read = |what: &str| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}")).map(|t| t.trim().to_owned());
        let number = |what: &str| read(what).and_then(|t| t.parse::<usize>().ok()).filter(|&n| n > 0);
        if read("type").is_some_and(|kind| kind != "Instruction")
            && let Some(level @ 1..=3) = number("level")
            && let Some(bytes) = read("size").and_then(|t| size_bytes(&t))
        {
            let (ways, line_bytes) = (number("ways_of_associativity"), number("coherency_line_size"));
            caches[level - 1] = Some(Cache { bytes, ways, line_bytes });
        }
    }
    caches
}

/// `32K` and `1M` as the system writes them.
fn size_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(
            ["32K", "1M", "512", "x", "0K", "9999999999999G"].map(size_bytes),
            [Some(32768), Some(1 << 20), Some(512), None, None, None]
        );
    }

    #[test]
    fn caches_are_read_from_the_systems_files() {
        let read = |path: &str| {
            let text = match path.strip_prefix("/sys/devices/system/cpu/cpu0/cache/")? {
                "index0/type" => "Data\n",
                "index0/level" | "index1/level" => "1\n",
                "index0/size" | "index1/size" => "64K\n",
                "index0/ways_of_associativity" => "4\n",
                "index0/coherency_line_size" => "128\n",
                "index1/type" => "Instruction\n",
                "index2/type" | "index3/type" => "Unified\n",
                "index2/level" => "2\n",
                "index2/size" => "1024K\n",
                "index3/level" => "3\n",
                "index2/ways_of_associativity" => "0\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let first = Cache { bytes: 64 << 10, ways: Some(4), line_bytes: Some(128) };
        let second = Cache { bytes: 1 << 20, ways: None, line_bytes: None };
        assert_eq!(of_system(&read), [Some(first), Some(second), None]);
    }
}
