// Read a safetensors file: eight bytes with the length of a JSON header, the header, the tensors as they lie in memory.

const KINDS = { F32: Float32Array, I32: Int32Array, U8: Uint8Array };

/** A function from the name of a tensor to { shape, values }, or to null if there is none. Throws if it is damaged. */
export function read(buffer) {
  let header, start;
  try {
    start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
    header = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)));
  } catch {
    throw new Error("model.safetensors is damaged: reload the page");
  }
  const ends = Object.values(header).map((entry) => entry.data_offsets?.[1] ?? 0);
  if (start + Math.max(...ends) !== buffer.byteLength) {
    throw new Error("model.safetensors is incomplete: reload the page");
  }
  return (name) => {
    if (!header[name]) return null;
    const { dtype, shape, data_offsets: [from, to] } = header[name];
    // A copy, since an array must begin at a multiple of its items' size.
    return { shape, values: new KINDS[dtype](buffer.slice(start + from, start + to)) };
  };
}
