"""The pages whose figures come from the results of record: README's section on speed, and docs/performance.md."""
