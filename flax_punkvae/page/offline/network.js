// The encoder and decoder of model/networks.py for sprites without convolutions. Layers are float32, as in Python; their
// sums are in double precision, since JavaScript has no other.

/** x @ kernel + bias, for a layer { kernel, bias } with a kernel [inputs, outputs]. */
export function dense(x, { kernel, bias }) {
  const sums = new Float64Array(bias);
  addProduct(sums, x, kernel);
  return new Float32Array(sums);
}

/** Add x @ kernel to the sums. `first` is the first row of the kernel that counts. */
export function addProduct(sums, x, kernel, first = 0) {
  const width = sums.length;
  for (let i = 0; i < x.length; i++) {
    const value = x[i];
    if (value === 0) continue;
    const row = (first + i) * width;
    for (let o = 0; o < width; o++) sums[o] += value * kernel[row + o];
  }
}

/** max(x, 0), in place. */
export function relu(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
  return x;
}

/** The layer of this name, from the tensors of the model. */
export function layer(tensor, name) {
  return { kernel: tensor(`params.${name}.kernel`).values, bias: tensor(`params.${name}.bias`).values };
}

function residualLayers(tensor, part) {
  const pairs = [];
  while (tensor(`params.${part}.residual_${pairs.length}_0.kernel`)) {
    pairs.push([0, 1].map((half) => layer(tensor, `${part}.residual_${pairs.length}_${half}`)));
  }
  return pairs;
}

function residual(x, [inner, outer]) {
  const y = dense(relu(dense(x, inner)), outer);
  return y.map((value, i) => x[i] + value);
}

/** A function from the palette's indices of a sprite to { mean, logvar } of its posterior. Depending on the model, the
 *  dense layer sees the open positions or all. */
export function encoder(tensor, open) {
  const { values: colours, shape: [, size] } = tensor("params.encoder.colours");
  const blocks = residualLayers(tensor, "encoder");
  const [first, mean, logvar] = ["dense", "mean", "logvar"].map((name) => layer(tensor, `encoder.${name}`));
  const onlyOpen = tensor("params.encoder.dense.kernel").shape[0] === open.length * size;
  return (indices) => {
    const seen = onlyOpen ? open.map((position) => indices[position]) : indices;
    const pixels = new Float32Array(seen.length * size);
    seen.forEach((index, place) => pixels.set(colours.subarray(index * size, (index + 1) * size), place * size));
    const x = blocks.reduce(residual, relu(dense(pixels, first)));
    return { mean: dense(x, mean), logvar: dense(x, logvar) };
  };
}

/** A function from latents to the features of the open positions, one after another. */
export function decoder(tensor, open) {
  const blocks = residualLayers(tensor, "decoder");
  const [first, all] = ["dense_0", "dense_1"].map((name) => layer(tensor, `decoder.${name}`));
  const size = tensor("params.palette.kernel").shape[1];
  // Depending on the model, its outputs are already those of the open positions.
  const last = all.bias.length === open.length * size ? all : columns(all, open, size);
  return (z) => dense(blocks.reduce(residual, relu(dense(z, first))), last);
}

/** The layer with only the outputs of these positions, each of which has so many. */
function columns({ kernel, bias }, positions, size) {
  const inputs = kernel.length / bias.length;
  const width = positions.length * size;
  const chosen = { kernel: new Float32Array(inputs * width), bias: new Float32Array(width) };
  positions.forEach((position, place) => {
    const [from, to] = [position * size, place * size];
    chosen.bias.set(bias.subarray(from, from + size), to);
    for (let i = 0; i < inputs; i++) {
      const row = i * bias.length + from;
      chosen.kernel.set(kernel.subarray(row, row + size), i * width + to);
    }
  });
  return chosen;
}
