// The priors of model/priors.py: from noise to latents.

const [LEAST, MOST] = [-6, 3];

/** A function from draws from N(0, 1) and numbers in [0, 1), one of each for each latent, to latents from the prior. */
export function prior(tensor) {
  return tensor("params.learned_prior.kernel_0") ? autoregressive(tensor) : (noise) => noise;
}

/**
 * Latent by latent, each from its mixture given the earlier ones. A hidden unit of degree g depends on the first g
 * latents alone, so the units of degree i are computed once, when latent i is drawn.
 */
function autoregressive(tensor) {
  const [k0, k1, k2] = [0, 1, 2].map((index) => tensor(`params.learned_prior.kernel_${index}`).values);
  const [b0, b1, b2] = [0, 1, 2].map((index) => tensor(`params.learned_prior.bias_${index}`).values);
  const width = b0.length;
  const latent = k0.length / width;
  const outputs = b2.length / latent;

  /** The sum of x[k] * kernel[k, column] over the units of degrees up to `degree`, and the bias. */
  function product(x, kernel, bias, column, degree) {
    let sum = bias[column];
    for (let k = 0; k < width; k++) if (k % latent <= degree) sum += x[k] * kernel[k * bias.length + column];
    return sum;
  }

  return (noise, uniform) => {
    const z = new Float32Array(latent);
    const [first, second] = [new Float32Array(width), new Float32Array(width)];
    for (let i = 0; i < latent; i++) {
      for (let unit = i; unit < width; unit += latent) {
        let sum = b0[unit];
        for (let k = 0; k < i; k++) sum += z[k] * k0[k * width + unit];
        first[unit] = Math.max(sum, 0);
      }
      for (let unit = i; unit < width; unit += latent) {
        second[unit] = first[unit] + Math.max(product(first, k1, b1, unit, i), 0);
      }
      const mixture = Array.from({ length: outputs }, (_, o) => product(second, k2, b2, i * outputs + o, i));
      z[i] = drawn(mixture, noise[i], uniform[i]);
    }
    return z;
  };
}

/** A value from a mixture of Gaussians: its logits, then its means, then its log standard deviations. */
function drawn(mixture, noise, uniform) {
  const components = mixture.length / 3;
  const most = Math.max(...mixture.slice(0, components));
  const weights = mixture.slice(0, components).map((logit) => Math.exp(logit - most));
  const total = weights.reduce((a, b) => a + b, 0);
  let sum = 0;
  const found = weights.findIndex((weight) => (sum += weight) > uniform * total);
  const chosen = found < 0 ? components - 1 : found;
  const logScale = Math.min(Math.max(mixture[2 * components + chosen], LEAST), MOST);
  return mixture[components + chosen] + Math.exp(logScale) * noise;
}
