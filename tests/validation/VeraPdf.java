import java.io.FileInputStream;
import java.util.Objects;
import org.verapdf.gf.foundry.VeraGreenfieldFoundryProvider;
import org.verapdf.pdfa.Foundries;
import org.verapdf.pdfa.flavours.PDFAFlavour;
import org.verapdf.pdfa.results.TestAssertion;

/** Checks PDF files: java VeraPdf.java FLAVOURS FILE… writes a line for each rule that is broken, and how many were tried. */
public class VeraPdf {
    public static void main(String[] arguments) throws Exception {
        VeraGreenfieldFoundryProvider.initialise();
        for (var name : arguments[0].split(",")) {
            var flavour = Objects.requireNonNull(PDFAFlavour.byFlavourId(name), "no flavour " + name);
            for (int at = 1; at < arguments.length; at++) {
                var file = arguments[at];
                try (var parser = Foundries.defaultInstance().createParser(new FileInputStream(file), flavour);
                        var validator = Foundries.defaultInstance().createValidator(flavour, false)) {
                    var result = validator.validate(parser);
                    result.getTestAssertions().stream()
                            .filter(each -> each.getStatus() == TestAssertion.Status.FAILED)
                            .map(each -> each.getRuleId().getClause() + "-" + each.getRuleId().getTestNumber() + ": "
                                    + each.getMessage())
                            .distinct()
                            .forEach(rule -> System.out.printf("broken\t%s\t%s\t%s%n", name, file, rule));
                    System.out.printf("%s\t%s\t%s\t%d%n", result.isCompliant() ? "valid" : "invalid", name, file,
                            result.getTotalAssertions());
                }
            }
        }
    }
}
