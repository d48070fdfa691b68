// The colours that each position showed in training, and the logits of those: model/palette.py.

/**
 * @param {Function} tensor
 * @returns {{ colours: number, height: number, width: number, only: Int32Array, open: number[], lists: number[][] }}
 *   only: the first colour of each position; open: the positions that show more than one; lists: the colours of each of
 *   these.
 */
export function support(tensor) {
  const { values, shape: [height, width, most] } = tensor("model.colours_at");
  const colours = tensor("model.palette").shape[0];
  const only = Int32Array.from({ length: height * width }, (_, position) => values[position * most]);
  const found = [...only.keys()].filter((position) => values[position * most + 1] < colours);
  const open = found.length ? found : [0];
  const lists = open.map((position) => {
    const list = Array.from(values.subarray(position * most, (position + 1) * most));
    return list.filter((colour) => colour < colours);
  });
  return { colours, height, width, only, open, lists };
}

/** A function from the number of an open position and its features to the logits of its colours. */
export function logits(tensor, name, { lists }) {
  const { values: kernel, shape: [, size] } = tensor(`params.${name}.kernel`);
  const { values: biases, shape: [, most] } = tensor(`params.${name}.bias`);
  return (number, x) => {
    const list = lists[number];
    const found = new Float64Array(list.length);
    for (let at = 0; at < list.length; at++) {
      found[at] = biases[number * most + at];
      for (let i = 0; i < size; i++) found[at] += x[i] * kernel[list[at] * size + i];
    }
    return found;
  };
}

/** Where the largest value is; of equal ones, the first. */
export function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** exp(x) / sum of exp(x), in place. */
export function softmax(values) {
  const most = values[largest(values)];
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] = Math.exp(values[i] - most);
  for (let i = 0; i < values.length; i++) values[i] /= sum;
  return values;
}
