// The files beside index.html.

/** The response of a file. `no-cache` asks whether it has changed: all files must be of one export. */
export async function fetched(name) {
  const failed = () => new Error(`${name} could not be loaded: reload the page`);
  const response = await fetch(new URL(`../${name}`, import.meta.url), { cache: "no-cache" }).catch(() => {
    throw failed();
  });
  if (!response.ok) throw failed();
  return response;
}
