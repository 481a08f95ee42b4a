// The shortest life of a sandbox.
#include <iostream>
#include <sandbox.hpp>

int main() {
    try {
        const auto client = sandbox::client::from_env();
        const sandbox::scoped_box box(client.create());
        const auto output = box->execute("uname -n");
        std::cout << box->name() << " says " << output.out();
        box->delete_sandbox();
    } catch (const sandbox::error &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
