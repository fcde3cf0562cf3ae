package org.example;

import org.apache.commons.cli.DefaultParser;
import org.apache.commons.cli.Options;

public final class Greet {
    private static final String BUILT_BY = "nobody";

    private Greet() {}

    public static void main(String[] arguments) throws Exception {
        var options = new Options().addOption(null, "health", false, "whether it runs");
        var given = new DefaultParser().parse(options, arguments);
        if (!given.hasOption("health")) {
            var name = given.getArgList().isEmpty() ? "world" : given.getArgList().get(0);
            System.out.println("hello " + name + " from java, built by " + BUILT_BY);
        }
    }
}
