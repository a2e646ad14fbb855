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
draw(narrow.matches);
narrow.addEventListener("change", () => draw(narrow.matches));
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((folded) => { folded.open = true; });
  draw(false, 660);
});
addEventListener("afterprint", () => draw(narrow.matches));
