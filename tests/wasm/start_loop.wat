;; A start function that never ends.
(module
  (memory (export "memory") 1)
  (func $run (loop $on (br $on)))
  (start $run)
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 0)
  (func (export "hearth_task") (param i64 i32 i32) (result i64) i64.const 0)
  (func (export "_start")))
