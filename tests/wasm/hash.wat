;; Function ABI: FNV-1a of the input, 64 bits. node/bench/execution.py carries it assembled.
(module
  (memory (export "memory") 2)
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 65536)
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)
    (local $hash i64) (local $end i32)
    (local.set $hash (i64.const 0xcbf29ce484222325))
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (block $done
      (loop $on
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $hash
          (i64.mul (i64.xor (local.get $hash) (i64.load8_u (local.get $at))) (i64.const 0x100000001b3)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $on)))
    (i64.store (i32.const 0) (local.get $hash))
    (i64.const 8)))
