"use strict";
// Without this script the page shows the same; with it tables sort and pictures enlarge.

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = [...body.rows].some((row) => row.cells[column]?.dataset.sort !== undefined);
      const before = head.getAttribute("aria-sort");
      const falling = before === null ? numeric : before === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const compare = (a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what does not occur stays last
        return (falling ? -1 : 1) * (numeric ? x - y : x.localeCompare(y));
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

function zoomable(image, dialog) {
  const open = () => {
    const [picture, caption] = dialog.children;
    picture.src = image.src;
    picture.alt = image.alt;
    picture.className = image.className;
    caption.textContent = image.alt;
    dialog.showModal();
  };
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", open);
  image.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    open();
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);
const dialog = document.getElementById("zoom");
document.querySelectorAll(".strip img, .finding img").forEach((image) => zoomable(image, dialog));
dialog.addEventListener("click", () => dialog.close());
