;; Function ABI with hearth_init: the output is the sum of the init's first byte and the input's; init byte 9 is refused.
(module
  (memory (export "memory") 2)
  (global $base (mut i32) (i32.const 0))
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 65536)
  (func (export "hearth_init") (param $at i32) (param $length i32) (result i32)
    (if (local.get $length) (then (global.set $base (i32.load8_u (local.get $at)))))
    (if (i32.eq (global.get $base) (i32.const 1)) (then unreachable))
    (select (i32.const 9) (i32.const 0) (i32.eq (global.get $base) (i32.const 9))))
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)
    (i32.store8 (i32.const 0) (i32.add (global.get $base) (i32.load8_u (local.get $at))))
    (i64.const 1)))
