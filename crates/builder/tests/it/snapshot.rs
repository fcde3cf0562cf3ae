//! Snapshots and their layers.

use std::sync::Arc;

use builder::llb::pb;
use builder::snapshot::{Snapshot, Snapshots, diff, merge};

use crate::fixture::{read, tree, with_builder};

#[test]
fn a_layer_becomes_an_images_by_a_rename() {
    with_builder(async |fixture| {
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::write(root.join("a"), "1").unwrap();
            std::fs::create_dir(root.join("d")).unwrap();
        });
        let top = fixture.snapshot(&base, |root| std::fs::write(root.join("b"), "22").unwrap());
        let mut archive = Vec::new();
        top.layers()[1].write_archive(&mut archive).unwrap();
        let digest = top.layers()[1].diff_id().await.unwrap();
        assert_eq!(storage::digest_of(&archive), digest);

        let held = top.layers()[0].folder().unwrap();
        let layer = Arc::clone(&top.layers()[0]);
        let adopting = tokio::spawn(async move { layer.adopt(None).await });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!adopting.is_finished(), "a layer in use was moved");
        drop(held);
        let first = adopting.await.unwrap().unwrap();
        let second = top.layers()[1].adopt(Some(&first.chain)).await.unwrap();
        assert_eq!(second.diff_id, digest);
        assert_eq!(second.size, 2);
        let store = fixture.engine.store().layers();
        assert_eq!(store.lowers(&second.chain).unwrap().len(), 2);
        assert_eq!(
            (read(&top, "/a"), read(&top, "/b")),
            ("1".into(), "22".into())
        );
        assert!(fixture.builder.snapshots.chains().contains(&second.chain));

        // the same again is the same, and on another parent it is a copy
        assert_eq!(
            top.layers()[1].adopt(Some(&first.chain)).await.unwrap(),
            second
        );
        let alone = top.layers()[1].adopt(None).await.unwrap();
        assert_eq!(alone.diff_id, digest);
        assert_ne!(alone.chain, second.chain);
    });
}

#[test]
fn snapshots_are_found_again_and_removed() {
    with_builder(async |fixture| {
        let snapshots = &fixture.builder.snapshots;
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::write(root.join("a"), "1").unwrap();
        });
        let top = fixture.snapshot(&base, |root| std::fs::write(root.join("b"), "2").unwrap());
        let ids = top.layer_ids().unwrap();
        top.layers()[0].adopt(None).await.unwrap();
        drop((base, top));
        // as after a restart
        let root = fixture.builder.root.clone();
        let again = Snapshots::open(&root, Arc::clone(fixture.engine.store())).unwrap();
        let found = again.restore(&ids).unwrap();
        assert_eq!(
            (read(&found, "/a"), read(&found, "/b")),
            ("1".into(), "2".into())
        );
        assert_eq!(
            again.retain(|_| false).unwrap(),
            0,
            "a layer in use was removed"
        );
        drop((found, again));
        assert!(snapshots.retain(|id| *id == ids[0]).unwrap() > 0);
        assert!(snapshots.restore(&ids).is_none());
        assert!(snapshots.restore(&ids[..1]).is_some());
        std::fs::create_dir(root.join("layers/stranger")).unwrap();
        let _again = Snapshots::open(&root, Arc::clone(fixture.engine.store())).unwrap();
        assert!(!root.join("layers/stranger").exists());
    });
}

#[test]
fn merged_and_compared() {
    with_builder(async |fixture| {
        let write = |name: &'static str| {
            move |root: &std::path::Path| {
                std::fs::write(root.join(name), name).unwrap();
            }
        };
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            for name in ["kept", "gone", "dir"] {
                std::fs::create_dir(root.join(name)).unwrap();
                std::fs::write(root.join(name).join("file"), name).unwrap();
            }
        });
        let left = fixture.snapshot(&base, write("left"));
        let right = fixture.snapshot(&base, write("right"));
        let merged = merge(&[left.clone(), right.clone()]).unwrap();
        assert_eq!(merged.layers().len(), 4);
        assert_eq!(
            (read(&merged, "/left"), read(&merged, "/right")),
            ("left".into(), "right".into())
        );

        let snapshots = &fixture.builder.snapshots;
        let suffix = diff(snapshots, &base, &left).unwrap();
        assert_eq!(tree(&suffix).into_keys().collect::<Vec<_>>(), ["/left"]);
        let other = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir(root.join("kept")).unwrap();
            std::fs::write(root.join("kept/file"), "changed").unwrap();
            std::fs::write(root.join("dir"), "now a file").unwrap();
            std::fs::create_dir_all(root.join("new/below")).unwrap();
        });
        let real = diff(snapshots, &base, &other).unwrap();
        let again = merge(&[base, real]).unwrap();
        assert_eq!(tree(&again), tree(&other));
        let op = pb::op::Op::Merge(pb::MergeOp {
            inputs: vec![pb::MergeInput { input: 1 }, pb::MergeInput { input: 0 }],
        });
        let made = fixture.run(op, &[left, right]).await.unwrap();
        assert_eq!(made[0].layers().len(), 4);
    });
}
