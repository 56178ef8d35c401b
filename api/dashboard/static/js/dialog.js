// Questions before what cannot be taken back.
import { fill, h } from "./dom.js";

/**
 * Ask in a modal dialog; Escape and Cancel mean no.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {(string|Node)[]} question.content what will happen, and fields if there are any.
 * @param {string} question.action what the button says.
 * @param {boolean} [question.dangerous]
 * @param {() => Promise<void>} question.act runs while the dialog is open; what it throws is shown in it.
 * @returns {Promise<boolean>} whether it was done.
 */
export function ask({ title, content, action, dangerous = false, act }) {
  const problem = h("p", { class: "error", role: "alert" });
  const go = h("button", { type: "submit", class: dangerous ? "danger" : "primary" }, action);
  const cancel = h("button", { type: "button" }, "Cancel");
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title), content, problem, h("div", { class: "row end" }, cancel, go));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    let done = false;
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => (dialog.remove(), resolve(done)));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      fill(problem);
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        fill(problem, error.message);
        go.disabled = false;
      }
    });
    dialog.showModal();
  });
}
