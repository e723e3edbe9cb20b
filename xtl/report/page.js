"use strict";
(() => {
  // Theme: auto, light, dark; remembered where the browser allows it, and settable by #theme=dark for screenshots.
  const root = document.documentElement, button = document.getElementById("theme"), themes = ["auto", "light", "dark"];
  const remembered = () => { try { return localStorage.getItem("xtl-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = theme;
    button.firstElementChild.textContent = theme;
    try { localStorage.setItem("xtl-theme", theme); } catch { /* file: pages may have no storage */ }
  };
  const asked = /theme=(light|dark)/.exec(location.hash);
  show(asked ? asked[1] : themes.includes(remembered()) ? remembered() : "auto");
  button.addEventListener("click", () => show(themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % 3]));

  // Tables: a click on a head sorts; numbers fall first, words rise first; empty cells stay last.
  const value = (row, column) => row.cells[column].dataset.v ?? "";
  const column = (head) => {
    const table = head.closest("table"), last = table.tHead.rows[table.tHead.rows.length - 1];
    if (head.parentElement !== last || last === table.tHead.rows[0]) return head.cellIndex;
    return head.cellIndex + 1; // two rows of heads: the first column's spans both
  };
  const sort = (head) => {
    const table = head.closest("table"), at = column(head), body = table.tBodies[0], rows = [...body.rows];
    const words = rows.some((row) => value(row, at) !== "" && Number.isNaN(Number(value(row, at))));
    const before = head.getAttribute("aria-sort");
    const rising = before === "none" ? words : before === "descending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const order = (a, b) => {
      const x = value(a, at), y = value(b, at);
      if (x === "" || y === "") return (x === "") - (y === "");
      return (words ? x.localeCompare(y) : x - y) * (rising ? 1 : -1);
    };
    body.append(...rows.sort(order));
  };
  for (const head of document.querySelectorAll(".sortable thead th[aria-sort]")) head.addEventListener("click", () => sort(head));

  // A link to a stage opens it.
  const open = () => {
    const id = decodeURIComponent(location.hash.slice(1)), target = id && document.getElementById(id);
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", open);
  open();
})();
