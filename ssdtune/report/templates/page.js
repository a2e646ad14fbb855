// Draws every figure of the page, again when the screen becomes narrow or wide, and at the paper's width for print.
const narrow = matchMedia("(max-width: 44rem)");
const plots = [...document.querySelectorAll(".plot")].map((place) => [
  place, JSON.parse(document.getElementById(`${place.id}-figure`).textContent)]);
function draw(small, width) {
  for (const [place, figure] of plots) {
    const layout = structuredClone(small ? figure.narrow : figure.layout);
    const config = { displaylogo: false, responsive: !width, displayModeBar: small || width ? false : "hover" };
    Plotly.react(place, figure.data, width ? { ...layout, width } : layout, config);
  }
}
// plotly.js (MIT licence) lies in the page, packed
async function unpack() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(plain).text();
  document.head.append(script);
}
unpack().then(() => {
  draw(narrow.matches);
  narrow.addEventListener("change", () => draw(narrow.matches));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((folded) => { folded.open = true; });
    draw(false, 660);
  });
  addEventListener("afterprint", () => draw(narrow.matches));
}, (reason) => {
  for (const [place] of plots) place.textContent = `This browser is too old to draw figures (${reason}): use one of 2023 or later.`;
});
