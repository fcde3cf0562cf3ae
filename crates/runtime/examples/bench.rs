//! timing
#![allow(warnings)]
#[path = "../tests/it/bed.rs"]
mod bed;
use std::os::fd::AsFd;
use std::time::Instant;
fn main() {
    let n: u32 = std::env::args().nth(1).map_or(20, |a| a.parse().unwrap());
    let bed = bed::Bed::new("bench");
    let spec = bed::spec(&["/bin/true"]);
    let set = runtime::capabilities::default_set();
    let program =
        runtime::seccomp::compile(&runtime::seccomp::default_profile(&set, (6, 1))).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &program.to_bytes()).unwrap();
    let mut sums = [0u128; 5];
    for i in 0..n {
        if i == n / 2 {
            sums = [0; 5];
        }
        let t0 = Instant::now();
        let prepared = bed.prepare(&spec);
        let t1 = Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let t1b = Instant::now();
        let mut fds = runtime::Fds::default();
        fds.seccomp = Some(file.try_clone().unwrap().into());
        let created = prepared.create(&bed.order(spec.clone()), fds).unwrap();
        let t2 = Instant::now();
        let running = created.start().unwrap();
        let t3 = Instant::now();
        bed::wait(&running.pidfd);
        let t4 = Instant::now();
        running.cgroup.delete().unwrap();
        let t5 = Instant::now();
        for (s, d) in sums
            .iter_mut()
            .zip([t1 - t0, t2 - t1b, t3 - t2, t4 - t3, t5 - t4])
        {
            *s += d.as_micros();
        }
    }
    for (name, s) in ["prepare", "create", "start", "wait", "delete"]
        .iter()
        .zip(sums)
    {
        println!("{name}: {} us", s / u128::from(n - n / 2));
    }
    let c = bed.sleeper(&spec);
    let mut sum = 0;
    for i in 0..n {
        let t = Instant::now();
        let o = c.exec(&spec.process).unwrap();
        if i >= n / 2 {
            sum += t.elapsed().as_micros();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    println!("exec: {} us", sum / u128::from(n - n / 2));
}
