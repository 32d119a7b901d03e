// The same in AssemblyScript, with the "function" ABI: bytes in, bytes out, and nothing imported.
//
//   npm install assemblyscript@0.28
//   npx asc hello.ts -O3 --runtime stub --use abort= --outFile hello-as.wasm

let input: ArrayBuffer = new ArrayBuffer(0);
let output: ArrayBuffer = new ArrayBuffer(0);

export function hearth_alloc(len: i32): i32 {
  if (input.byteLength < len) input = new ArrayBuffer(len);
  return len > 0 ? <i32>changetype<usize>(input) : 16;
}

export function hearth_task(index: i64, ptr: i32, len: i32): i64 {
  output = String.UTF8.encode("hello from task " + index.toString());
  return (<i64>changetype<usize>(output) << 32) | <i64>output.byteLength;
}
