//! Cache mounts.

use builder::llb::pb;
use builder::ops::cache_mount::{CacheMounts, Sharing};
use builder::snapshot::Snapshot;

use crate::exec::shell;
use crate::fixture::{can_run, read, with_builder};

#[test]
fn what_a_step_leaves_the_next_finds() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let filled = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir(root.join("cache")).unwrap();
            std::fs::write(root.join("cache/first"), "from the base\n").unwrap();
        });
        let op = |command: &str| {
            let mut op = shell(command);
            op.mounts.push(pb::Mount {
                input: 1,
                selector: "/cache".to_owned(),
                dest: "/var/cache".to_owned(),
                output: -1,
                mount_type: pb::MountType::Cache.into(),
                cache_opt: Some(pb::CacheOpt {
                    id: "an id".to_owned(),
                    sharing: pb::CacheSharingOpt::Locked.into(),
                }),
                ..pb::Mount::default()
            });
            pb::op::Op::Exec(op)
        };
        let inputs = [base, filled];
        let first = fixture
            .run(op("echo one >> /var/cache/first"), &inputs)
            .await
            .unwrap();
        assert!(!crate::fixture::tree(&first[0]).contains_key("/var/cache"));
        let made = fixture
            .run(op("cp /var/cache/first /got"), &inputs)
            .await
            .unwrap();
        assert_eq!(read(&made[0], "/got"), "from the base\none\n");
        let mounts = &fixture.builder.cache_mounts;
        let list = mounts.list();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].record.uses, list[0].in_use), (2, false));
        assert!(list[0].size > 0);
        assert!(mounts.remove(&list[0].record.name).unwrap());
        assert!(mounts.list().is_empty());
    });
}

#[test]
fn sharing_is_what_was_asked() {
    with_builder(async |fixture| {
        let mounts = &fixture.builder.cache_mounts;
        let scratch = Snapshot::scratch();
        let take = |sharing| mounts.take("id", &scratch, sharing);
        let (one, two) = (
            take(Sharing::Shared).await.unwrap(),
            take(Sharing::Shared).await.unwrap(),
        );
        assert_eq!(one.data(), two.data());
        let alone = take(Sharing::Private).await.unwrap();
        assert_ne!(alone.data(), one.data());
        drop((one, two, alone));
        let locked = take(Sharing::Locked).await.unwrap();
        let second = take(Sharing::Locked);
        let mut second = std::pin::pin!(second);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), &mut second).await;
        assert!(waited.is_err(), "two have the lock");
        let name = mounts.list()[0].record.name.clone();
        assert!(mounts.list().iter().any(|mount| mount.in_use));
        drop(locked);
        drop(second.await.unwrap());
        assert!(mounts.remove(&name).unwrap() || !mounts.list().is_empty());
        let _again = CacheMounts::open(&fixture.builder.root).unwrap();
    });
}
