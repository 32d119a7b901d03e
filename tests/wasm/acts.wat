;; Function ABI: the input's first byte chooses what the task does.
;; 0 the index as 8 bytes  1 unreachable  2 endless loop  3 endless recursion  4 grow memory until refused, then give up
;; 5 claims 2 MiB of output  6 fails with code 7  7 an output outside of the memory  8 loops 1000 times the 2nd byte
;; 9 leaks 16 pages, gives up where there are none  10 division by zero  11 huge table  12 counts calls in this instance
(module
  (memory (export "memory") 2)
  (table $table 1 funcref)
  (global $calls (mut i32) (i32.const 0))
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 65536)
  (func $recurse (param i64) (result i64)
    (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func $bytes (param $at i64) (param $length i64) (result i64)
    (i64.or (i64.shl (local.get $at) (i64.const 32)) (local.get $length)))
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)
    (local $act i32) (local $left i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (local.get $length) (then (local.set $act (i32.load8_u (local.get $at)))))
    (i64.store (i32.const 0) (local.get $index))
    (if (i32.eq (local.get $act) (i32.const 1)) (then unreachable))
    (if (i32.eq (local.get $act) (i32.const 2)) (then (loop $on (br $on))))
    (if (i32.eq (local.get $act) (i32.const 3)) (then (return (call $recurse (i64.const 0)))))
    (if (i32.eq (local.get $act) (i32.const 4))
      (then
        (loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        unreachable))
    (if (i32.eq (local.get $act) (i32.const 5)) (then (return (call $bytes (i64.const 0) (i64.const 0x200000)))))
    (if (i32.eq (local.get $act) (i32.const 6)) (then (return (i64.const -249))))
    (if (i32.eq (local.get $act) (i32.const 7)) (then (return (call $bytes (i64.const 0x7fff0000) (i64.const 16)))))
    (if (i32.eq (local.get $act) (i32.const 8))
      (then
        (local.set $left (i32.mul (i32.load8_u offset=1 (local.get $at)) (i32.const 1000)))
        (loop $on
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br_if $on (i32.gt_s (local.get $left) (i32.const 0))))))
    (if (i32.eq (local.get $act) (i32.const 9))
      (then (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))))
    (if (i32.eq (local.get $act) (i32.const 10))
      (then (i32.store (i32.const 0) (i32.div_u (i32.const 1) (i32.const 0)))))
    (if (i32.eq (local.get $act) (i32.const 11))
      (then (if (i32.eq (table.grow $table (ref.null func) (i32.const 100000000)) (i32.const -1)) (then unreachable))))
    (if (i32.eq (local.get $act) (i32.const 12)) (then (i64.store (i32.const 0) (i64.extend_i32_u (global.get $calls)))))
    (call $bytes (i64.const 0) (i64.const 8))))
