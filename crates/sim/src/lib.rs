//! The demo cell: scene, physics, arms, cameras, tasks with their oracles, the scripted policy.
