// Trades the token for a cookie.
const form = document.getElementById("login");
const wrong = document.getElementById("wrong");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  wrong.textContent = "";
  const token = document.getElementById("token").value;
  try {
    const answer = await fetch("/login", { method: "POST", body: token });
    if (answer.ok) location.reload();
    else wrong.textContent = "This is not the token.";
  } catch {
    wrong.textContent = "The publisher does not answer.";
  }
});
